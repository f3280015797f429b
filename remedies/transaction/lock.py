"""One writer per host and namespace. The kernel frees the lock of a writer that dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Optional

from remedies import codec
from remedies.errors import InputError, Locked, NotPermitted
from remedies.facts.gather import now
from remedies.resources import program
from remedies.transaction.actor import command, user

NAME = "lock"
_WIDTH = 2048
"""Bytes of what the holder says of itself, always as many: whoever reads it never sees half."""


class _TimeUpError(Exception):
    """The time allowed for waiting is over."""


def _time_up(_signal: int, _frame: Optional[FrameType]) -> None:
    raise _TimeUpError


def opened(folder: str) -> int:
    """Open (or make, 0600) the lock of ``folder`` and return its descriptor.

    Raises NotPermitted where that does not work, or where the file has a second name.
    """
    descriptor = _opened(os.path.join(folder, NAME), os.O_NOFOLLOW | os.O_CREAT)
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise NotPermitted(
            f"the lock {os.path.join(folder, NAME)} has a second hard link",
            "look at it and remove it",
        )
    return descriptor


def reopened(descriptor: int) -> int:
    """Open the lock that ``descriptor`` names (O_PATH), wherever it is now: removed, moved."""
    return _opened(f"/proc/self/fd/{descriptor}", 0)


def _opened(path: str, flags: int) -> int:
    flags |= os.O_CLOEXEC
    try:
        try:
            return os.open(path, flags | os.O_RDWR, 0o600)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            return os.open(path, flags & ~os.O_CREAT | os.O_RDONLY)  # undoing needs no more
    except OSError as error:
        raise NotPermitted(
            f"cannot open the lock {path}: {error.strerror}", "run as root"
        ) from error


@contextlib.contextmanager
def held(folder: str, timeout: Optional[float], work: str = "") -> Iterator[None]:
    """Hold the writer's lock of ``folder`` for the length of a ``with`` block.

    As :func:`taken`, with the lock that the folder holds now.
    """
    descriptor = opened(folder)
    try:
        with taken(descriptor, timeout, work):
            yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def taken(descriptor: int, timeout: Optional[float], work: str = "") -> Iterator[None]:
    """Hold the lock that is open as ``descriptor`` for the length of a ``with`` block.

    Waits ``timeout`` seconds at most (None: for as long as it takes); then raises Locked, naming
    the holder (pid, command, user, since when). ``work`` is what this one does, by default the
    command line. Must run in the main thread: the wait ends by SIGALRM, not by looking again.

    Programs started meanwhile hold the lock too, for as long as they run: it is not free before
    the last program of a writer that was killed has ended.
    """
    _wait(descriptor, timeout)
    try:
        with contextlib.suppress(OSError):  # a full disk: it is held all the same, by nobody named
            os.pwrite(descriptor, codec.dumps(_card(work)).ljust(_WIDTH).encode(), 0)
        program.KEPT.add(descriptor)
        yield
    finally:
        program.KEPT.discard(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _wait(descriptor: int, timeout: Optional[float]) -> None:
    if timeout is None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        if timeout <= 0:
            raise Locked(_holder(descriptor), "wait, or raise --lock-timeout") from None
    previous = signal.signal(signal.SIGALRM, _time_up)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except _TimeUpError:
        raise Locked(_holder(descriptor), "wait, or raise --lock-timeout") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _card(work: str) -> dict[str, object]:
    return {"pid": os.getpid(), "command": work or command(), "user": user(), "since": now()}


def _holder(descriptor: int) -> str:
    try:
        who = codec.loads(os.pread(descriptor, _WIDTH, 0).decode(errors="replace"), "lock")
        return (
            f"another remedy is writing: pid {who['pid']}, {who['command']!r}, "
            f"user {who['user']}, since {who['since']}"
        )
    except (InputError, KeyError, TypeError):
        return "another remedy is writing (its process is not known yet)"
