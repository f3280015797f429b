"""Confirm: keep a pending transaction; from any session, before its deadline."""

from __future__ import annotations

from functools import partial
from typing import Optional

from remedies.errors import RemedyError, UsageError, WriteFailed
from remedies.operations import recovery, rollback, session, unowned
from remedies.operations.session import HostSession
from remedies.outcomes import Outcome
from remedies.transaction import actor, adopt, bootguard, consent, guard, guarded, lock
from remedies.transaction.journal import Journal
from remedies.transaction.ledger import Transaction
from remedies.transaction.run import confirm_it
from remedies.values import dataclass

_PATIENCE = 5.0
"""Seconds that a guard may take to end; one that is stopped reads the journal when it goes on."""


@dataclass(frozen=True)
class Confirmed:
    """The result of a confirmation."""

    outcome: Outcome
    """``confirmed``; ``reverted``: it came too late; ``nothing``: nothing waits."""
    transaction: str = ""


def confirm(here: HostSession, wanted: Optional[str], *, lock_timeout: float) -> Confirmed:
    """Keep the pending transaction; ``wanted`` is its id, None for whichever is pending.

    Raises UsageError where the journal has no such transaction, RemedyError where the pending one
    is in another journal.
    """
    folder = here.folder
    with lock.held(folder, lock_timeout), Journal(folder) as journal:
        here = session.reread(here)
        entry = recovery.waiting(here)
        if entry is None or wanted not in (None, entry.id):
            _no_stray(here, wanted)
            return _too_late(recovery.recover(here, journal), wanted)
        agreed = consent.confirmed(actor.user(), dry_run=here.dry_run)
        _keep(here, journal, entry, agreed)
    # It needs the lock. Until it has read that, a journal that is lost would make it undo this.
    guarded.wake(folder, entry.id, _PATIENCE)
    return Confirmed("confirmed", entry.id)


def adopt_unowned(here: HostSession, *, lock_timeout: float) -> Optional[Transaction]:
    """Record as ours what has our names and is in no journal; nothing on the host is changed.

    Return the transaction; None where there is nothing to adopt. Raises WriteFailed.
    """
    with lock.held(here.folder, lock_timeout), Journal(here.folder) as journal:
        here = recovery.recover(session.reread(here), journal)
        changes = unowned.adoptions(here)
        if not changes:
            return None
        agreed = consent.confirmed(actor.user(), dry_run=here.dry_run)
        entry = unowned.adopt(here, changes, agreed)
        try:
            adopt.record(journal, entry)
        except OSError as error:
            raise WriteFailed(f"{journal.path}: {error.strerror}", "nothing is adopted") from error
    return entry


def would_keep(here: HostSession, wanted: Optional[str]) -> Optional[Transaction]:
    """Return the transaction that :func:`confirm` would keep; nothing is written."""
    entry = recovery.waiting(here)
    return entry if entry is not None and wanted in (None, entry.id) else None


def answer(
    here: HostSession, name: str, agreed: Optional[consent.Consent], *, lock_timeout: float
) -> bool:
    """Keep the pending transaction, by the consent ``agreed``; None undoes it at once.

    Return False, and do nothing, if the journal does not have it as pending.
    """
    with lock.held(here.folder, lock_timeout), Journal(here.folder) as journal:
        here = session.reread(here)
        entry = recovery.waiting(here)
        if entry is None or entry.id != name:
            return False
        if agreed is not None:
            _keep(here, journal, entry, agreed)
            guarded.wake(here.folder, name)
        else:
            taken_back = consent.recovering(dry_run=here.dry_run)
            rollback.reject(here, journal, entry, taken_back)
    return True


def end_of(here: HostSession, name: str, watched: guard.Guard) -> Transaction:
    """Return a transaction after its guard has exited: confirmed, or undone.

    Raises RemedyError if the guard was killed: then nothing undoes it.
    """
    entry = guard.outcome_of(here.folder, name)
    if entry is None or entry.outcome is None:
        entry = watched.ended()  # the journal cannot say
    if entry is None or entry.outcome is None:
        raise RemedyError(
            f"the guard of transaction {name} was killed",
            "'remedy confirm' keeps the change, 'remedy rollback' undoes it",
        )
    return entry


def _keep(here: HostSession, journal: Journal, entry: Transaction, agreed: consent.Consent) -> None:
    """Keep a pending transaction. The caller holds the lock, and wakes its guard."""
    for_boot = partial(bootguard.arm, here.folder, entry.id)
    confirm_it(here.store, journal, entry, agreed, for_boot)


def _no_stray(here: HostSession, wanted: Optional[str]) -> None:
    """Raise RemedyError if a transaction is pending that is not in this journal."""
    for stray in guard.strays(here.ledger):
        if wanted in (None, stray.txn):
            raise RemedyError(
                f"transaction {stray.txn} is not in this journal and cannot be confirmed here: its "
                f"guard (pid {stray.pid}) has {stray.folder}",
                "if that is another --state-dir, name it; if it is gone, the guard undoes it "
                f"in time, or at once after 'kill -TERM {stray.pid}'",
            )


def _too_late(here: HostSession, wanted: Optional[str]) -> Confirmed:
    """Return the result when nothing is pending, or no longer."""
    entry = next(session.newest(here.folder, wanted or ""), None)
    if wanted is not None and entry is None:
        raise UsageError(f"transaction {wanted!r} is not in the journal", "see 'remedy history'")
    if entry is not None and entry.outcome == "reverted":
        return Confirmed("reverted", entry.id)
    return Confirmed("nothing", wanted or "")
