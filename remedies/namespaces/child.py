"""One function in a process of its own, forked, so that what is imported already is shared."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection, Iterator

from remedies.namespaces import netns

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


@contextlib.contextmanager
def signals_wait(numbers: Collection[int] = SIGNALS) -> Iterator[set[int]]:
    """Hold signals back for the length of a ``with`` block; yield those held back before."""
    before = {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, numbers)}
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def fork(
    be: Callable[[], None],
    mask: Collection[int],
    on_signal: signal.Handlers = signal.SIG_DFL,
) -> int:
    """Return the id of a process that does one thing, and ends without the parent's ways out.

    It leads a process group, so that all it starts can be ended with it, and the kernel kills it
    when the thread that forked it ends. Call it while :func:`signals_wait`, which yields ``mask``.
    ``on_signal``: what the process does with :data:`SIGNALS`.
    """
    parent = os.getpid()
    netns.load()  # or each child would
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            for number in SIGNALS:
                signal.signal(number, on_signal)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            netns.end_with_parent()
            if os.getppid() == parent:
                be()
        finally:
            os._exit(0)
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(pid, pid)  # the child does so, too: whoever comes first
    return pid
