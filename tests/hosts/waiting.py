"""Waiting for what another process does, where it tells nobody."""

from __future__ import annotations

import time
from collections.abc import Callable

_BRIEF, _LONG = 0.005, 1.0


def eventually(
    holds: Callable[[], bool], seconds: float = 10.0, what: str = "it did not come to that in time"
) -> None:
    """Wait until something outside this process holds; fail after ``seconds``.

    A look may start programs: looking takes a fifth of the time at most.
    """
    end = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if holds():
            return
        ended = time.monotonic()
        assert ended < end, what
        time.sleep(min(max(_BRIEF, 4 * (ended - began)), _LONG))
