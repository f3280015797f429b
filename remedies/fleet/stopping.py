"""A signal while Ansible runs ends Ansible first, and does afterwards what it does elsewhere.

Left alone, ansible-runner puts handlers of its own in the place of ours. They note the signal and
look at the note every few seconds; they stay after the play, when nobody looks any more, so that
the next batch began as if nothing had come; and what they kill is a process group, which Ansible's
workers have left (``WorkerProcess._detach``): those went on, as far as confirming their hosts.

So the play runs with handlers of this file. They kill Ansible, its workers and the ``ssh`` that
carries their commands. What a host is doing by then it carries to its end by itself; nobody
confirms it, and its guard undoes it in time. Over a local connection the host's own processes
descend from Ansible's, its guard among them: none of those is touched.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Optional

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CARRIERS = frozenset({"ssh", "sshpass"})
_PATIENCE = 5.0
"""Seconds in which killed processes are gone: only a hung disk keeps one for longer."""
_Handler = Callable[[int, Optional[FrameType]], Any]


@contextmanager
def stopping() -> Iterator[None]:
    """End Ansible when a signal comes, or when this is left by an error.

    The signal then does what its handler from before does, at the end of this at the latest.
    """
    play = _Play()
    previous = play.take_over()
    try:
        yield
    finally:
        try:
            play.end()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
    play.go_on()


class _Play:
    """One play: the processes that it starts, and the signal that came."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._others = {pid for pid, parent, _ in _processes() if parent == self._owner}
        self._came: Optional[int] = None
        self._previous: dict[int, _Handler] = {}

    def take_over(self) -> dict[int, Any]:
        """Put our handlers in place; return those that were there (not those that ignore)."""
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                self._previous[int(number)] = handler
                signal.signal(number, self._take)
        return dict(self._previous)

    def _take(self, number: int, _frame: Optional[FrameType]) -> None:
        if os.getpid() != self._owner:  # between fork and exec
            os._exit(128 + number)
        if self._came is None:
            self._came = number
        if not self.end():
            self.go_on()  # Ansible is not there yet, or not any more: nothing else would end this

    def go_on(self) -> None:
        """Do what the signal that came would have done; nothing where none came."""
        if self._came is not None:
            number, self._came = self._came, None
            self._previous[number](number, None)

    def end(self) -> bool:
        """Kill Ansible and wait until it is gone; return whether it was there."""
        family = self._family()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + _PATIENCE
        for descriptor in family.values():
            gone = select.poll()
            gone.register(descriptor, select.POLLIN)
            gone.poll(max(0.0, end - time.monotonic()) * 1000)
            os.close(descriptor)
        return bool(family)

    def _family(self) -> dict[int, int]:
        """Stop Ansible's processes, so that they start no more of them; return pidfds by pid.

        They are our children, theirs (the workers), and the carriers that those have started. A
        connection that ssh shares with others is a child of ssh, and is left alone.
        """
        found: dict[int, int] = {}
        while True:
            fresh = self._members() - self._others - found.keys()
            if not fresh:
                return found
            for pid in fresh:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    descriptor = os.pidfd_open(pid)
                    os.kill(pid, signal.SIGSTOP)
                    found[pid] = descriptor
                if pid not in found:
                    self._others.add(pid)

    def _members(self) -> set[int]:
        processes = list(_processes())
        ansible = {p for p, parent, _ in processes if parent == self._owner} - self._others
        workers = {p for p, parent, _ in processes if parent in ansible}
        carriers = {p for p, parent, name in processes if parent in workers and name in _CARRIERS}
        masked = {p for p, _, name in processes if p in carriers and name == "sshpass"}
        below = {p for p, parent, _ in processes if parent in masked}
        return ansible | workers | carriers | below


def _processes() -> Iterator[tuple[int, int, str]]:
    """Yield each living process: its id, its parent's and its name (proc(5), /proc/pid/stat)."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                with open(f"/proc/{name}/stat", "rb") as file:
                    head, _, rest = file.read().rpartition(b")")
                state, parent = rest.split()[:2]
                if state != b"Z":
                    yield int(name), int(parent), head.partition(b"(")[2].decode(errors="replace")
