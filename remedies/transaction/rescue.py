"""What a guard does when its time has come: undo, under the writer's lock, until it is done.

Writer and guard never write at once: the lock is free once the writer and every program it had
started are gone. Whoever sits on it without getting on is ended: neither a hung writer nor anybody
else may keep the guard from its work.

An undoing that fails because of something that may pass (others write rules at the same time, a
program took too long, memory ran out) is tried again after a pause, and after a longer one. The
transaction is unfinished meanwhile, and ``status`` says so. A person can end it in any pause.
"""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator
from typing import Optional

from remedies.errors import Locked, RemedyError
from remedies.transaction import bootguard, consent, undo
from remedies.transaction.host import HostResources
from remedies.transaction.ledger import Transaction
from remedies.transaction.memory import Memory
from remedies.transaction.store import Result
from remedies.transaction.wall import announce

SITS = 60.0
"""Seconds that somebody else may hold the lock of a transaction that has to be undone."""
AWAIT = 1.0
"""Seconds to wait for whoever has just ended it."""
PAUSE, LONGEST, LASTING = 0.2, 30.0, 600.0
"""Seconds between two tries: the first pause, each twice the one before up to the longest, until
so many seconds have passed since the first try."""
_LIMITS = ("NOFILE", "FSIZE", "CPU", "AS", "DATA", "NPROC")
"""Limits that a caller may have set for itself and that could stop an undoing (setrlimit(2))."""


def is_over(memory: Memory) -> bool:
    """Tell whether an end that was seen stands: nobody is at work who could take it back.

    A confirmation whose end was written and not acknowledged makes the transaction wait again.
    """
    try:
        with memory.locked(AWAIT):
            return memory.look().outcome is not None
    except Locked:
        return False
    except RemedyError:  # no lock can be had: what is on record counts
        return True


def tidy(memory: Memory) -> None:
    """Take away what a writer that died after the end has left; another one does it too."""
    if bootguard.armed(memory.folder, memory.txn):
        with contextlib.suppress(RemedyError), memory.locked(SITS):
            bootguard.disarm(memory.folder, memory.txn)


def act(memory: Memory, why: str, patience: float) -> Optional[Transaction]:
    """Undo the transaction, unless it has ended meanwhile; return how it ended.

    None where it never began. Whoever sits on the lock longer than ``patience`` seconds is ended.
    """
    said = False
    for last in _tries():
        try:
            result = _undo(memory, why, patience, last)
        except Locked as error:
            memory.end_holders()
            announce(f"transaction {memory.txn} had to be undone, but the lock was taken: "
                     f"{error.what}; that process hung and was killed")  # fmt: skip
            result = _undo(memory, why, None, last)
        except RemedyError as error:  # no lock can be had
            result = Result(memory.txn, "incomplete", stuck=(str(error),), open=not last)
        if result is None or not result.open:
            break
        patience = SITS
        if not said:
            said = True
            announce(f"{_name(memory)} is not undone yet: {'; '.join(result.stuck)}; its guard "
                     f"keeps trying for {LASTING / 60:.0f} minutes")  # fmt: skip
    entry = memory.look()
    if result is None:
        return entry if entry.outcome is not None else None
    announce(_sentence(memory, entry, result))
    entry.outcome, entry.reason, entry.stuck = result.outcome, result.reason, result.stuck
    return entry


def _tries() -> Iterator[bool]:
    """Yield for each try whether it is the last one, with the pauses in between."""
    pause, end = PAUSE, time.monotonic() + LASTING
    while time.monotonic() + pause < end:
        yield False
        time.sleep(pause)
        pause = min(2 * pause, LONGEST)
    yield True


def _undo(memory: Memory, why: str, patience: Optional[float], last: bool) -> Optional[Result]:
    """Try to undo the transaction under the lock; None where it had ended, or never began."""
    _unlimited()
    agreed = consent.recovering(dry_run=False)
    with memory.locked(patience):
        entry = memory.look()
        if entry.outcome is not None or not memory.began:
            return None
        why = "expired" if entry.pending is not None else why
        with memory.journal() as journal:
            return undo.recover(HostResources(), journal, entry, why, agreed, last=last)


def _unlimited() -> None:
    """Lift the limits that this process inherited, as far as the kernel lets it."""
    for name in _LIMITS:
        number = getattr(resource, f"RLIMIT_{name}")
        highest = 4096 if name == "NOFILE" else resource.RLIM_INFINITY
        hard = resource.getrlimit(number)[1]
        for limits in ((hard, hard), (highest, highest)):  # the second one may be refused
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(number, limits)


def _name(memory: Memory) -> str:
    return f"transaction {memory.txn} ({memory.begin.kind}, by {memory.begin.user})"


def _sentence(memory: Memory, entry: Transaction, result: Result) -> str:
    why = "was not confirmed in time" if entry.pending is not None else "lost its writer"
    if result.outcome == "incomplete":
        return f"{_name(memory)} {why} and cannot be undone: {'; '.join(result.stuck)}"
    end = "carried to its end" if entry.begin.kind == "rollback" else "undone: all is as before"
    trouble = memory.trouble()
    notes = [f"{trouble}; it was undone from memory"] if trouble else []
    notes += [f"not recorded in the journal: {result.unrecorded}"] if result.unrecorded else []
    note = f" ({'; '.join(notes)})" if notes else ""
    return f"{_name(memory)} {why} and was {end}{note}"
