"""How a person ends a trace: the first signal asks for the end, a second one does not wait."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any, Optional

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ending:
    """Takes Ctrl-C, SIGTERM and SIGHUP while the ``with`` block lasts.

    The first makes the descriptor readable, so that what was heard is counted and told before the
    end; after it the handlers that were there before take over.
    """

    def __init__(self) -> None:
        """Take nothing yet."""
        self.signal: Optional[int] = None
        """Which one came, None: none yet."""
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before: dict[int, Any] = {}

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._read

    def __enter__(self) -> Ending:
        """Take the signals."""
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        """Give them back."""
        self._give_back()
        os.close(self._read)
        os.close(self._write)

    def _take(self, number: int, _frame: Optional[FrameType]) -> None:
        self.signal = number
        os.write(self._write, b"!")
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
