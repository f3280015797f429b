"""Work done in many processes at a time, each with a time limit, none able to break the others.

One process works in one network namespace; visiting many takes a process each. They are forked,
so that what is imported already is shared.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Sequence
from typing import NoReturn

from remedies.values import dataclass

AT_ONCE = 64
"""Processes at a time. Most of a visit is waiting for a window to pass."""

_MOST = 64 * 1024 * 1024
"""Octets that one visit may come to."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
_FAILED = b"!"
_DONE = b"="
_WHOLE = b"\0"
"""The last octet of what a child says: without it the child was killed on the way."""
_GRACE = 1.0
"""Seconds a killed process may take to be gone; the kernel keeps one that is deep in it."""


@dataclass(frozen=True)
class WorkerResult:
    """What became of one piece of work: its result, or why there is none."""

    text: str = ""
    failure: str = ""


@dataclass
class _Child:
    index: int
    pid: int
    pipe: int
    until: float
    heard: bytearray


def visit_all(
    works: Sequence[Callable[[], str]], limit: float, at_once: int = AT_ONCE
) -> list[WorkerResult]:
    """Call every function in a process of its own and return what each returned, in order.

    An exception, a process that dies, and one that takes longer than ``limit`` seconds become a
    ``failure``. However this function is left, none of its processes stays.
    """
    done = [WorkerResult()] * len(works)
    waiting = list(enumerate(works))[::-1]
    running: dict[int, _Child] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                _start(*waiting.pop(), limit, running)
            for child in _ready(running.values()):
                part = os.read(child.pipe, 1 << 20)
                child.heard += part
                if not part:
                    done[child.index] = _result(running.pop(child.pipe))
                elif len(child.heard) > _MOST:
                    _end(running.pop(child.pipe))
                    done[child.index] = WorkerResult(failure="output larger than 64 MiB")
            for child in [c for c in running.values() if time.monotonic() >= c.until]:
                _end(running.pop(child.pipe))
                done[child.index] = WorkerResult(failure=f"took longer than {limit:g} s")
    finally:
        for child in running.values():
            _end(child)
    return done


def _ready(children: Collection[_Child]) -> list[_Child]:
    """Return the children that say something, or none once the first of them is late."""
    poll = select.poll()
    by_pipe = {child.pipe: child for child in children}
    for pipe in by_pipe:
        poll.register(pipe, select.POLLIN)
    first = min(child.until for child in by_pipe.values())
    left = max(0.0, first - time.monotonic())
    return [by_pipe[pipe] for pipe, _ in poll.poll(left * 1000)]


def _start(index: int, work: Callable[[], str], limit: float, running: dict[int, _Child]) -> None:
    """Fork a process that does the work; it leads a process group, so that all of it can end.

    Signals wait until the new process leads its group and stands among those that are ended.
    """
    ours, theirs = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _work(work, theirs, limit, (ours, *running), mask)
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)  # the child does so, too: whoever comes first
        running[ours] = _Child(index, pid, ours, time.monotonic() + limit, bytearray())
    finally:
        os.close(theirs)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _work(
    work: Callable[[], str],
    pipe: int,
    limit: float,
    others: tuple[int, ...],
    mask: Collection[int],
) -> NoReturn:
    """Be the child: say the result on the pipe, and end without the parent's ways out."""
    try:
        os.setpgid(0, 0)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.setitimer(signal.ITIMER_REAL, limit + _GRACE)  # also where nobody is left to wait
        for other in others:
            os.close(other)
        try:
            kind, said = _DONE, work()
        except Exception as error:
            kind, said = _FAILED, str(error) or type(error).__name__
        with open(pipe, "wb") as file:
            file.write(kind + said.encode("utf-8", "backslashreplace") + _WHOLE)
    finally:
        os._exit(0)


def _result(child: _Child) -> WorkerResult:
    """Return what a child has said before it closed its end of the pipe."""
    _end(child)
    if not child.heard.endswith(_WHOLE):
        return WorkerResult(failure="its process was killed")
    text = child.heard[1:-1].decode()
    return WorkerResult(text=text) if child.heard[:1] == _DONE else WorkerResult(failure=text)


def _end(child: _Child) -> None:
    """Kill what is left of a child's group, and let the kernel forget the child.

    The child's end of the pipe is closed once it is gone: nobody waits for one that is not.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    poll = select.poll()
    poll.register(child.pipe, select.POLLIN)
    until = time.monotonic() + _GRACE
    gone = False
    while not gone and poll.poll(max(0.0, until - time.monotonic()) * 1000):
        gone = not os.read(child.pipe, 1 << 20)
    os.close(child.pipe)
    if gone:
        os.waitpid(child.pid, 0)
