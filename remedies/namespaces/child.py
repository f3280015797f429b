"""One function in a process of its own, forked, so that what is imported already is shared."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Iterator

from remedies.namespaces import netns

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
GRACE = 1.0
"""Seconds a killed process may take to be gone; the kernel keeps one that is deep in it."""


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


def end(pid: int, pipe: int) -> int:
    """Kill what is left of a process's group, and let the kernel forget the process.

    ``pipe``: its other end is closed once the process is gone: nobody waits for one that is not.
    Returns the signal that ended it, 0 for none.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    until = time.monotonic() + GRACE
    gone = False
    while not gone and poll.poll(max(0.0, until - time.monotonic()) * 1000):
        gone = not os.read(pipe, 1 << 20)
    if not gone:
        return 0
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def ended_by(number: int) -> str:
    """Return why a process has said nothing, by the signal that ended it."""
    return f"its process was ended by {signal.Signals(number).name}" if number else "no result"
