"""How much of a processor may be used for looks at what dropped a packet."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator


def spent() -> float:
    """Return the seconds of a processor that this thread and children that ended have used.

    Waiting for a processor is no part of it. On a busy host looks took so long by the clock that
    the next ones were put off until what they would have seen was gone.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.thread_time() + ended.ru_utime + ended.ru_stime


class Allowance:
    """One part in ``share`` of a processor, from the beginning on.

    What is paid for may run ahead of that by ``burst`` seconds.
    """

    def __init__(self, share: int, burst: float = 0.0) -> None:
        """Begin with nothing used."""
        self._share, self._burst = share, burst
        self._paid_until = float("-inf")

    @property
    def left(self) -> bool:
        """Whether something may be looked at now."""
        return time.monotonic() + self._burst >= self._paid_until

    @contextlib.contextmanager
    def pay(self) -> Iterator[None]:
        """Count what is used meanwhile, also where it fails."""
        begin, before = time.monotonic(), spent()
        try:
            yield
        finally:
            self._paid_until = max(begin, self._paid_until) + self._share * (spent() - before)
