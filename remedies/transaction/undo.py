"""Putting back what was there: at once, after a crash, or when a person asks for it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from remedies.errors import Drift, RemedyError
from remedies.model import Change
from remedies.transaction.journal import Journal
from remedies.transaction.ledger import Begin, Transaction
from remedies.transaction.store import Result, Store, new_id, put, short


def undo(
    store: Store,
    journal: Journal,
    txn: str,
    changes: tuple[Change, ...],
    reason: str,
    progress: list[int],
    *,
    crashed: bool = False,
) -> Result:
    """Put back every before-value, newest first, going on after an error.

    ``progress`` holds the indices that were written and read back; the one after the last may
    have been written too. What comes after that was never touched and is not touched now. A value
    that is neither ours nor the old one is somebody else's and stays (``stuck``), except where
    our own write has just gone wrong; after a crash nobody can tell that apart.
    """
    stuck = []
    with undisturbed():
        for index in range(min(len(progress), len(changes) - 1), -1, -1):
            change = changes[index]
            own = index not in progress and not crashed
            try:
                _put_back(store, change, force=own)
                journal.append("undone", txn, {"change": index})
            except (RemedyError, OSError) as error:
                stuck.append(f"{change.resource}: {error}")
        outcome = "incomplete" if stuck else "rolled-back"
        try:
            journal.append("end", txn, {"outcome": outcome, "reason": reason, "stuck": stuck})
        except OSError as error:
            stuck.append(f"{journal.path}: {error.strerror}: the end of {txn} is not on record")
            outcome = "incomplete"
    return Result(transaction=txn, outcome=outcome, reason=reason, stuck=tuple(stuck))


def recover(store: Store, journal: Journal, entry: Transaction) -> Result:
    """Finish a transaction whose writer died: undo an apply, and redo the rest of a rollback."""
    if entry.begin.kind == "rollback":
        return _write_rest(store, journal, entry.id, entry.begin.changes, tuple(entry.written))
    progress = [i for i in entry.written if i not in entry.undone]
    return undo(
        store, journal, entry.id, entry.begin.changes, "its writer died", progress, crashed=True
    )


def roll_back(store: Store, journal: Journal, begin: Begin, *, force: bool = False) -> Result:
    """Undo by compare-and-swap: ``begin.changes`` are the reversed changes, newest first.

    A value that is neither ours nor already the old one raises Drift with all three values,
    before anything is written, unless ``force``. Goes on after an error; the result lists what
    is stuck.
    """
    if not force:
        for change in begin.changes:
            _check_ours(store, change)
    txn = new_id()
    journal.append("begin", txn, begin.plain())
    return _write_rest(store, journal, txn, begin.changes, ())


def _write_rest(
    store: Store, journal: Journal, txn: str, changes: tuple[Change, ...], done: tuple[int, ...]
) -> Result:
    stuck = []
    with undisturbed():
        for index, change in enumerate(changes):
            if index in done:
                continue
            try:
                put(store, change.resource, change.after, exact=change.reversibility == "exact")
                journal.append("written", txn, {"change": index})
            except (RemedyError, OSError) as error:
                stuck.append(f"{change.resource}: {error}")
        outcome = "incomplete" if stuck else "rolled-back"
        journal.append("end", txn, {"outcome": outcome, "stuck": stuck})
    return Result(transaction=txn, outcome=outcome, stuck=tuple(stuck))


def _check_ours(store: Store, change: Change) -> None:
    """Raise Drift unless the value is ours (``before`` of a reversed change) or already back."""
    found = store.read(change.resource)
    if not any(store.same(change.resource, found, v) for v in (change.after, change.before)):
        raise Drift(
            f"{change.resource} was changed by somebody else: before us {short(change.after)}, "
            f"ours {short(change.before)}, now {short(found)}",
            "find out who did; 'remedy rollback --force' overwrites it",
        )


def _put_back(store: Store, change: Change, *, force: bool) -> None:
    reverse = change.reversed()
    if not force:
        _check_ours(store, reverse)
    put(store, reverse.resource, reverse.after, exact=change.reversibility == "exact")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold signals back while undoing: half an undo helps nobody."""
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
