"""What every verb can tell of a transaction's guard from outside: whether it lives, and its clock.

A guard has a FIFO in the state folder as long as it lives; through it anybody may let it look at
the journal. Here is no more than that, so that a verb which only reads need not load the guard.
"""

from __future__ import annotations

import errno
import os
import time

from remedies.transaction import ledger
from remedies.transaction.ledger import Transaction


def fifo(folder: str, txn: str) -> str:
    """Return the path of a guard's FIFO."""
    return os.path.join(folder, f"guard-{txn}")


def alive(folder: str, txn: str) -> bool:
    """Tell whether the guard of a transaction lives: whether its FIFO has a reader."""
    return _send(folder, txn, b"")


def wake(folder: str, txn: str) -> None:
    """Let the guard of a transaction look at the journal."""
    _send(folder, txn, b"\n")


def _send(folder: str, txn: str, word: bytes) -> bool:
    try:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(fifo(folder, txn), flags)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):  # fifo(7): nobody reads it
            return False
        raise
    try:
        os.write(descriptor, word)
    except BlockingIOError:
        pass  # full of nudges nobody has read yet: it will look anyway
    finally:
        os.close(descriptor)
    return True


def clock() -> float:
    """Return CLOCK_BOOTTIME (clock_gettime(2)): seconds since boot, suspended ones too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def situation(folder: str, entry: Transaction, boot_id: str) -> str:
    """Say how an unfinished transaction stands now: see :func:`ledger.situation`."""
    return ledger.situation(entry, boot_id, clock(), alive(folder, entry.id))
