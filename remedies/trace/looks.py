"""How often a trace reads what takes time: bounded in number, and in its part of a processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional, TypeVar

from remedies.errors import NotPermitted, Unreadable, UsageError
from remedies.tap.allowance import Allowance

_T = TypeVar("_T")

_MOST = 64
_SHARE = 20
"""Looks take one part in so many of a processor: a long ruleset must not deafen us."""
_BURST = 4.0
"""Seconds by which they may run ahead of that: what is dropped comes several kinds at once."""


class Looks:
    """An allowance of looks; why one failed is in :attr:`unread`."""

    def __init__(self) -> None:
        """Begin with all of them."""
        self._taken = 0
        self._processor = Allowance(_SHARE, _BURST)
        self.unread: dict[str, None] = {}

    def take(self, what: str, ask: Callable[[], Optional[_T]]) -> Optional[_T]:
        """Return an answer; None: none, no look is left, or it failed. ``what`` names it then."""
        if self._taken >= _MOST or not self._processor.left:
            return None
        self._taken += 1
        try:
            with self._processor.pay():
                return ask()
        except OSError as error:
            self.unread[f"{what}: {error.strerror}"] = None
        except (NotPermitted, Unreadable, UsageError) as error:
            self.unread[f"{what}: {error}"] = None
        return None
