"""Writing: check, record, write, read back, verify; and undo all of it when one step fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from remedies.errors import RemedyError, StalePlan
from remedies.model import Change
from remedies.transaction.journal import Journal
from remedies.transaction.ledger import Begin
from remedies.transaction.store import Result, Store, new_id, put, short
from remedies.transaction.undo import undo


def check_fresh(store: Store, changes: tuple[Change, ...]) -> None:
    """Raise StalePlan naming the first resource that is not as the plan found it."""
    for change in changes:
        now = store.read(change.resource)
        if not store.same(change.resource, now, change.before):
            raise StalePlan(
                f"{change.resource} moved: the plan found {short(change.before)}, "
                f"now it is {short(now)}",
                "make a new plan",
            )


def apply(
    store: Store,
    journal: Journal,
    begin: Begin,
    verify: Callable[[], Optional[str]],
) -> Result:
    """Write every change of ``begin``, or none.

    ``verify`` is called when all is written; a reason it returns undoes everything. Raises
    StalePlan or WriteFailed while nothing has been written yet. A signal (KeyboardInterrupt or
    any other exception) undoes what was written and is raised again.
    """
    check_fresh(store, begin.changes)
    for change in begin.changes:
        store.check(change.resource, change.after)
    txn = new_id()
    journal.append("begin", txn, begin.plain())
    progress: list[int] = []
    try:
        reason = _write_all(store, journal, txn, begin.changes, progress) or verify()
    except BaseException as error:
        undo(store, journal, txn, begin.changes, f"interrupted: {type(error).__name__}", progress)
        raise
    if reason is None:
        journal.append("end", txn, {"outcome": "applied"})
        return Result(transaction=txn, outcome="applied")
    return undo(store, journal, txn, begin.changes, reason, progress)


def _write_all(
    store: Store,
    journal: Journal,
    txn: str,
    changes: tuple[Change, ...],
    progress: list[int],
) -> Optional[str]:
    """Write in order, noting each index in ``progress``; return the reason of the first failure."""
    for index, change in enumerate(changes):
        try:
            put(store, change.resource, change.after)
            journal.append("written", txn, {"change": index})
            for effect in change.effects:
                store.write(effect, None)
                journal.append("effect", txn, {"change": index, "effect": effect})
        except (RemedyError, OSError) as error:
            return f"{change.resource}: {error}"
        progress.append(index)
    return None
