"""Work done in many processes at a time, each with a time limit, none able to break the others.

One process works in one network namespace; visiting many takes a process each. They are forked,
so that what is imported already is shared.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Optional

from remedies.namespaces import child
from remedies.values import dataclass

NO_LIMIT = float("inf")
AT_ONCE = 64
"""Processes at a time. Most of a visit is waiting for a window to pass."""

_MOST = 64 * 1024 * 1024
"""Octets that one visit may come to."""
_FAILED = b"!"
_DONE = b"="
_WHOLE = b"\0"
"""The last octet of what a child says: without it the child was killed on the way."""


@dataclass(frozen=True)
class WorkerResult:
    """What became of one piece of work: its result, or why there is none."""

    text: str = ""
    failure: str = ""
    killed_by: int = 0
    """The signal that ended its process before it had a result."""


@dataclass
class _Child:
    index: int
    pid: int
    pipe: int
    until: float
    limit: float
    heard: bytearray


class Crew:
    """Processes that work at the same time, each under a name that the caller gives it.

    However the ``with`` block is left, none of them stays.
    """

    def __init__(self) -> None:
        """Have nobody yet."""
        self._running: dict[int, _Child] = {}

    def __enter__(self) -> Crew:
        """Return the crew."""
        return self

    def __exit__(self, *_: object) -> None:
        """End every process."""
        for name in self.names:
            self.end(name)

    @property
    def names(self) -> tuple[int, ...]:
        """Return the names of those that are at work."""
        return tuple(each.index for each in self._running.values())

    @property
    def pipes(self) -> tuple[int, ...]:
        """Return what to poll for results."""
        return tuple(self._running)

    @property
    def until(self) -> float:
        """Return the monotonic time at which the first of them is late; infinite for none."""
        return min((each.until for each in self._running.values()), default=NO_LIMIT)

    def start(self, name: int, work: Callable[[], str], limit: float) -> None:
        """Call a function in a process of its own, for no longer than ``limit`` seconds.

        The process ends with this one, also where this one is killed.
        """
        _start(name, work, limit, self._running)

    def end(self, name: int) -> None:
        """End a process before it has a result; none of this name is fine."""
        for each in [c for c in self._running.values() if c.index == name]:
            _end(self._running.pop(each.pipe))

    def hear(self, pipe: int) -> Optional[tuple[int, WorkerResult]]:
        """Take in what a pipe that is readable has; return name and result once it is whole."""
        speaker = self._running[pipe]
        part = os.read(pipe, 1 << 20)
        speaker.heard += part
        if not part:
            return speaker.index, _result(self._running.pop(pipe))
        if len(speaker.heard) > _MOST:
            _end(self._running.pop(pipe))
            return speaker.index, WorkerResult(failure="output larger than 64 MiB")
        return None

    def late(self) -> Iterator[tuple[int, WorkerResult]]:
        """End those that take longer than they may; yield name and failure of each.

        One that has something to say is heard first, also where this process had no processor
        while it said so.
        """
        overdue = [c for c in self._running.values() if time.monotonic() >= c.until]
        speaking = _readable([each.pipe for each in overdue], 0.0)
        for each in [c for c in overdue if c.pipe not in speaking]:
            _end(self._running.pop(each.pipe))
            yield each.index, WorkerResult(failure=f"took longer than {each.limit:g} s")


def visit_all(
    works: Sequence[Callable[[], str]], limit: float, at_once: int = AT_ONCE
) -> list[WorkerResult]:
    """Call every function in a process of its own and return what each returned, in order.

    An exception, a process that dies, and one that takes longer than ``limit`` seconds become a
    ``failure``. However this function is left, none of its processes stays.
    """
    done = [WorkerResult()] * len(works)
    waiting = list(enumerate(works))[::-1]
    with Crew() as crew:
        while waiting or crew.names:
            while waiting and len(crew.names) < at_once:
                crew.start(*waiting.pop(), limit)
            for pipe in _ready(crew):
                heard = crew.hear(pipe)
                if heard is not None:
                    done[heard[0]] = heard[1]
            for name, result in crew.late():
                done[name] = result
    return done


def _ready(crew: Crew) -> list[int]:
    """Return the pipes that can be read, or none once the first process is late."""
    return _readable(crew.pipes, max(0.0, crew.until - time.monotonic()))


def _readable(pipes: Sequence[int], left: float) -> list[int]:
    """Return those that can be read or are closed, once there are any or so much time is over."""
    poll = select.poll()
    for pipe in pipes:
        poll.register(pipe, select.POLLIN)
    return [pipe for pipe, _ in poll.poll(None if left == NO_LIMIT else left * 1000)]


def _start(index: int, work: Callable[[], str], limit: float, running: dict[int, _Child]) -> None:
    """Fork a process that does the work.

    Signals wait until the new process leads its group and stands among those that are ended.
    """
    ours, theirs = os.pipe()
    others = (ours, *running)
    try:
        with child.signals_wait() as mask:
            pid = child.fork(lambda: _work(work, theirs, limit, others), mask)
            running[ours] = _Child(index, pid, ours, time.monotonic() + limit, limit, bytearray())
    finally:
        os.close(theirs)


def _work(work: Callable[[], str], pipe: int, limit: float, others: tuple[int, ...]) -> None:
    """Be the child: say the result on the pipe."""
    if limit != NO_LIMIT:
        signal.setitimer(signal.ITIMER_REAL, limit + child.GRACE)  # also where the parent hangs
    for other in others:
        os.close(other)
    try:
        kind, said = _DONE, work()
    except Exception as error:
        kind, said = _FAILED, str(error) or type(error).__name__
    with open(pipe, "wb") as file:
        file.write(kind + said.encode("utf-8", "backslashreplace") + _WHOLE)


def _result(done: _Child) -> WorkerResult:
    """Return what a child has said before it closed its end of the pipe."""
    number = _end(done)
    if not done.heard.endswith(_WHOLE):
        return WorkerResult(failure=child.ended_by(number), killed_by=number)
    text = done.heard[1:-1].decode()
    return WorkerResult(text=text) if done.heard[:1] == _DONE else WorkerResult(failure=text)


def _end(ended: _Child) -> int:
    number = child.end(ended.pid, ended.pipe)
    os.close(ended.pipe)
    return number
