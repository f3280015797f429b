"""One writer per host and namespace. The kernel frees the lock of a writer that dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Optional

from remedies import codec
from remedies.errors import InputError, Locked, NotPermitted
from remedies.probing import now
from remedies.transaction.actor import command, user

NAME = "lock"


class _TimeUpError(Exception):
    """The time allowed for waiting is over."""


def _time_up(_signal: int, _frame: Optional[FrameType]) -> None:
    raise _TimeUpError


@contextlib.contextmanager
def held(folder: str, timeout: float) -> Iterator[None]:
    """Hold the writer's lock of ``folder`` for the length of a ``with`` block.

    Waits ``timeout`` seconds at most; then raises Locked, naming the holder (pid, command, user,
    since when). Must run in the main thread: the wait ends by SIGALRM, not by looking again.
    """
    path = os.path.join(folder, NAME)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NotPermitted(
            f"cannot open the lock {path}: {error.strerror}", "run as root"
        ) from error
    try:
        _wait(descriptor, timeout)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, codec.dumps(_card()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _wait(descriptor: int, timeout: float) -> None:
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


def _card() -> dict[str, object]:
    return {"pid": os.getpid(), "command": command(), "user": user(), "since": now()}


def _holder(descriptor: int) -> str:
    try:
        who = codec.loads(os.pread(descriptor, 4096, 0).decode(errors="replace"), "lock")
        return (
            f"another remedy is writing: pid {who['pid']}, {who['command']!r}, "
            f"user {who['user']}, since {who['since']}"
        )
    except (InputError, KeyError, TypeError):
        return "another remedy is writing (it has not said who it is)"
