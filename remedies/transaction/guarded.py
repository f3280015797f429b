"""What every verb can tell of a transaction's guard from outside: whether it lives, and its clock.

A guard has a FIFO in the state folder as long as it lives; through it anybody may let it look at
the journal. Here is no more than that, so that a verb which only reads need not load the guard.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Iterator
from typing import Optional

from remedies.transaction import ledger
from remedies.transaction.ledger import Transaction


def fifo(folder: str, txn: str) -> str:
    """Return the path of a guard's FIFO."""
    return os.path.join(folder, f"guard-{txn}")


def alive(folder: str, txn: str) -> bool:
    """Tell whether the guard of a transaction lives: whether its FIFO has a reader."""
    with _opened(folder, txn) as descriptor:
        return descriptor is not None


def wake(folder: str, txn: str, patience: float = 0.0) -> None:
    """Let the guard of a transaction look at the journal.

    Wait until it has ended, for ``patience`` seconds at most.
    """
    with _opened(folder, txn) as descriptor:
        if descriptor is None:
            return
        # Full of nudges nobody has read yet: it will look anyway. Or it has ended since.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(descriptor, b"\n")
        poll = select.poll()
        poll.register(descriptor, 0)  # poll(2): POLLERR is told once nobody reads it
        poll.poll(patience * 1000)


@contextlib.contextmanager
def _opened(folder: str, txn: str) -> Iterator[Optional[int]]:
    """Open a guard's FIFO; None where no guard reads it."""
    try:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(fifo(folder, txn), flags)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENOENT):  # fifo(7): nobody reads it
            raise
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def clock() -> float:
    """Return CLOCK_BOOTTIME (clock_gettime(2)): seconds since boot, suspended ones too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def situation(folder: str, entry: Transaction, boot_id: str) -> str:
    """Say how an unfinished transaction stands now: see :func:`ledger.situation`."""
    return ledger.situation(entry, boot_id, clock(), alive(folder, entry.id))
