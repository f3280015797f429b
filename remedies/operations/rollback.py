"""Rollback: restore what was there before us, unless somebody has changed it since."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Optional

from remedies.errors import Drift, RemedyError, UsageError
from remedies.model import Change
from remedies.netfilter.libnftables import one_process
from remedies.operations import recovery, session, unowned
from remedies.operations.recovery import Arming
from remedies.operations.session import HostSession
from remedies.outcomes import Outcome
from remedies.planning.reads import diff
from remedies.transaction import lock, undo
from remedies.transaction.consent import Consent
from remedies.transaction.journal import Journal
from remedies.transaction.ledger import Transaction, to_roll_back
from remedies.values import dataclass, replace

BACK = "the value from before comes back"


@dataclass(frozen=True)
class Which:
    """What is to be rolled back; nothing named: the newest transaction."""

    transaction: Optional[str] = None
    fix: Optional[str] = None
    every: bool = False
    unowned: bool = False
    """Tables and chains under our names that no journal knows."""

    @property
    def takes_the_unfinished(self) -> bool:
        """Tell whether a transaction that was never finished may be rolled back by this."""
        return not (self.fix or self.every or self.unowned)


@dataclass(frozen=True)
class RolledBack:
    """How a rollback ended."""

    outcome: Outcome
    transactions: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    drift: tuple[str, ...] = ()
    """Resources that somebody has changed since; they were left alone."""
    stuck: tuple[str, ...] = ()


Agree = Callable[[tuple[Change, ...]], Consent]
"""Asks a person about changes; returns their consent, or raises RemedyError."""
_Step = tuple[tuple[str, ...], tuple[Change, ...]]
"""Transactions, and the reversed changes that undo them."""


def roll_back(
    here: HostSession, which: Which, agree: Agree, *, force: bool, lock_timeout: float
) -> RolledBack:
    """Undo what ``which`` names, newest first; a pending transaction is rejected.

    ``force`` overwrites values that somebody changed since. Raises UsageError where nothing has
    that name, RemedyError where it cannot be undone now, and what ``agree`` raises.
    """
    waits, rejected = _ask_about(here, which, agree)
    with lock.held(here.folder, lock_timeout), Journal(here.folder) as journal, one_process():
        here = session.reread(here)
        dead = tuple(entry.id for entry in here.ledger.values() if entry.outcome is None)
        entry = recovery.waiting(here)
        if entry is not None and entry.id == waits and rejected is not None:
            reject(here, journal, entry, rejected)
            here = session.reread(here)
        here = recovery.recover(here, journal)
        if dead and which.takes_the_unfinished and which.transaction in (None, *dead):
            return RolledBack("rolled-back", dead)
        return _undo(here, which, agree, journal, dead, force=force)


def preview(here: HostSession, which: Which) -> tuple[Change, ...]:
    """Return the changes that a rollback would make, with their diffs; nothing is written."""
    return _with_diffs(here, [change for _, step in _steps(here, which) for change in step])


def reject(here: HostSession, journal: Journal, entry: Transaction, agreed: Consent) -> None:
    """Undo a pending transaction. The caller holds the lock.

    Raises RemedyError where something is stuck, or the journal does not say that it was undone.
    """
    recovery.whole(recovery.take_back(here, journal, entry, "rejected", agreed))


def _ask_about(here: HostSession, which: Which, agree: Agree) -> tuple[str, Optional[Consent]]:
    """Ask about the pending transaction, if it is among what is to be undone.

    Not under the lock: its guard must be able to undo it while nobody answers. Return its id and
    the consent; no id where there is nothing to ask about.
    """
    entry = recovery.waiting(here)
    if entry is None or which.fix or which.unowned or which.transaction not in (None, entry.id):
        return "", None
    return entry.id, agree(_with_diffs(here, [c.reversed() for c in reversed(entry.standing)]))


def _undo(
    here: HostSession,
    which: Which,
    agree: Agree,
    journal: Journal,
    dead: tuple[str, ...],
    *,
    force: bool,
) -> RolledBack:
    steps = list(_steps(here, which))
    changes = _with_diffs(here, [c for _, step in steps for c in step])
    if not changes:
        return RolledBack("rolled-back" if dead else "nothing", dead)
    agreed, arming, done = agree(changes), Arming(here), list(dead)
    drift: list[str] = []
    stuck: list[str] = []
    for undoes, step in steps:
        begin = recovery.begin(here, "rollback", step, agreed, undoes=undoes)
        try:
            result = undo.roll_back(here.store, journal, begin, agreed, force=force, arm=arming)
        except Drift as error:
            drift.append(str(error))
            continue
        done += undoes or (result.transaction,)
        stuck += result.stuck
        if result.open:
            here.notify(
                "the guard continues to undo what is stuck; 'remedy status' shows when it is done"
            )
        recovery.recorded(result)
    recovery.sweep(session.reread(here))
    outcome: Outcome = "rolled-back"
    if drift or stuck:
        outcome = "incomplete" if done else "refused"
    return RolledBack(outcome, tuple(done), changes, tuple(drift), tuple(stuck))


def _steps(here: HostSession, which: Which) -> Iterator[_Step]:
    """Yield what to undo, newest first."""
    if which.unowned:
        changes = unowned.removals(here)
        if changes:
            yield (), changes
    elif which.fix:
        yield _of_fix(here, which.fix)
    else:
        yield from _of_transactions(here, which)


def _of_fix(here: HostSession, fix: str) -> _Step:
    """Return what undoes everything that a fix has in force."""
    entries = [held for held in reversed(list(here.held.values())) if held.fix == fix]
    if not entries:
        fixes = sorted({held.fix for held in here.held.values()})
        raise UsageError(
            f"no fix {fix!r} is in force", f"in force: {', '.join(fixes) or 'nothing'}"
        )
    step = tuple(
        Change(
            fix=held.fix,
            finding=None,
            resource=held.resource,
            action="remove" if held.base is None else "update",
            before=held.ours,
            after=held.base,
            diff="",
            reversibility=held.reversibility,
            risk="low",
            impact=BACK,
        )
        for held in entries
    )
    touched = {held.resource for held in entries}
    undoes = tuple(
        txn
        for txn, changes in to_roll_back(here.ledger).items()
        if touched & {change.resource for change in changes}
    )
    return undoes, step


def _of_transactions(here: HostSession, which: Which) -> Iterator[_Step]:
    left = to_roll_back(here.ledger)
    if which.transaction:
        if which.transaction not in left:
            known = next(session.newest(here.folder, which.transaction), None) is not None
            raise UsageError(
                f"transaction {which.transaction!r} "
                + ("has nothing in force" if known else "is not in the journal"),
                "see 'remedy history'",
            )
        _on_top(left, which.transaction)
        left = {which.transaction: left[which.transaction]}
    elif not which.every:
        left = dict(list(left.items())[:1])
    for txn, changes in left.items():
        yield (txn,), tuple(replace(c.reversed(), impact=BACK) for c in reversed(changes))


def _on_top(left: dict[str, tuple[Change, ...]], txn: str) -> None:
    """Raise RemedyError where a newer transaction has changed what this one would put back.

    Its way back leads to what this one wrote: undone in the wrong order, that would stay for good.
    """
    mine = {change.resource for change in left[txn]}
    for newer, changes in left.items():
        if newer == txn:
            return
        both = [change.resource for change in changes if change.resource in mine]
        if both:
            raise RemedyError(
                f"{both[0]} was changed again by transaction {newer}",
                f"'remedy rollback {newer}' first, or 'remedy rollback --every' for all",
            )


def _with_diffs(here: HostSession, changes: list[Change]) -> tuple[Change, ...]:
    return tuple(replace(c, diff=diff(here.store, c.resource, c.before, c.after)) for c in changes)
