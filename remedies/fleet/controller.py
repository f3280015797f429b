"""Which process leads a run: its workers stop when it is gone, and no second one begins beside it.

A killed front end leaves Ansible behind, which knows nothing of that. So each worker is told who
leads, and looks before it changes a host, and before it confirms.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from remedies.errors import Locked

GONE = "the controller was stopped"


def this() -> str:
    """Return a name for this process that no later one has: its id and when it was started."""
    return f"{os.getpid()} {_started(os.getpid())}"


def leads(name: str) -> bool:
    """Tell whether the process of that name lives; an empty name: nobody has to."""
    if not name:
        return True
    pid, _, started = name.partition(" ")
    return pid.isdigit() and bool(started) and _started(int(pid)) == started


def _started(pid: int) -> str:
    """Return when a process was started, in ticks since boot (proc(5)); empty: there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if words[0] in (b"Z", b"X") else words[19].decode()


@contextmanager
def leading(folder: str) -> Iterator[None]:
    """Lead the run of this folder. Raises Locked where somebody else does."""
    descriptor = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            leader = os.pread(descriptor, 64, 0).decode(errors="replace").partition(" ")[0]
            raise Locked(f"{folder}: process {leader} is leading this run",
                         "wait until it ends, or stop it") from None  # fmt: skip
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, this().encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)
