"""What a look costs: the processor's time, not the time that passes."""

from __future__ import annotations

import resource
import time


def spent() -> float:
    """Return the seconds of a processor that this thread and children that ended have used.

    Waiting for a processor is no part of it. On a busy host looks took so long by the clock that
    the next ones were put off until what they would have seen was gone.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.thread_time() + ended.ru_utime + ended.ru_stime
