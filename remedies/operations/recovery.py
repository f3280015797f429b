"""What every operation that writes does: recover first, record who writes, arm the guard."""

from __future__ import annotations

from typing import Optional

from remedies import __version__
from remedies.errors import Locked, RemedyError, WriteFailed
from remedies.local_time import local
from remedies.model import Change, Finding, Plan
from remedies.operations import session
from remedies.operations.session import HostSession
from remedies.outcomes import Kind
from remedies.transaction import (
    actor,
    bootguard,
    built_in,
    consent,
    guard,
    guarded,
    state,
    undo,
    undofile,
)
from remedies.transaction.consent import Consent
from remedies.transaction.journal import Journal
from remedies.transaction.ledger import (
    Begin,
    Transaction,
    checkpoint,
    to_roll_back,
    unfinished,
)
from remedies.transaction.store import Result


def prepare(here: HostSession) -> str:
    """Make this namespace's state folder and return it."""
    return state.prepare(here.state_dir, here.host.netns)


def recover(here: HostSession, journal: Journal) -> HostSession:
    """Undo what a dead writer left or nobody confirmed in time, with a warning for each.

    Raises Locked while a transaction is pending. The caller holds the lock, and has read the
    journal since.
    """
    agreed = consent.recovering(dry_run=here.dry_run)
    left = unfinished(here.ledger)
    for entry in left:
        why = guarded.situation(here.folder, entry, here.host.boot_id)
        if why == "pending" and entry.pending is not None:
            raise Locked(
                f"transaction {entry.id} waits for confirmation until {local(entry.pending.until)}",
                "'remedy confirm' keeps it, 'remedy rollback' undoes it now",
            )
        result = take_back(here, journal, entry, why, agreed)
        here.notify(
            f"transaction {entry.id} was never finished; it has been undone now ({result.outcome})"
        )
        whole(result)
    if left:
        here = session.reread(here)
    sweep(here)
    if journal.full:
        journal.rotate(checkpoint(here.ledger))
    return here


def take_back(
    here: HostSession, journal: Journal, entry: Transaction, why: str, agreed: Consent
) -> Result:
    """Undo a transaction that has no end, for a reason of ``outcomes.RECOVERIES``. Hold the lock.

    Its guard is woken, and goes on if this fails.
    """
    last = not guarded.alive(here.folder, entry.id)
    result = undo.recover(here.store, journal, entry, why, agreed, last=last)
    guarded.wake(here.folder, entry.id)
    return result


def whole(result: Result) -> None:
    """Raise RemedyError where something is stuck, or the journal does not say what was undone."""
    if result.stuck:
        raise RemedyError(
            f"transaction {result.transaction} cannot be undone: {'; '.join(result.stuck)}",
            "fix that, then run 'remedy rollback'",
        )
    recorded(result)


def sweep(here: HostSession) -> None:
    """Remove the files that ended transactions left beside the journal, which was just read."""
    guard.sweep(here.folder)
    bootguard.sweep(here.folder, {entry.id for entry in unfinished(here.ledger)})
    undofile.sweep(here.folder, to_roll_back(here.ledger).keys())


def waiting(here: HostSession) -> Optional[Transaction]:
    """Return the transaction that can still be confirmed, or None."""
    for entry in unfinished(here.ledger):
        if guarded.situation(here.folder, entry, here.host.boot_id) in ("pending", "unguarded"):
            return entry
    return None


def recorded(result: Result) -> None:
    """Raise RemedyError if the journal has no end of a transaction."""
    if result.unrecorded:
        raise RemedyError(
            f"transaction {result.transaction} was undone, but the journal does not have it: "
            f"{result.unrecorded}",
            "free space, then 'remedy rollback' closes it",
        )


def write_undo(here: HostSession, txn: str, changes: tuple[Change, ...]) -> None:
    """Write the undo script, which needs no remedy; raise WriteFailed."""
    try:
        undofile.write(here.folder, txn, undofile.script(txn, here.host.netns, changes))
    except OSError as error:
        undofile.remove(here.folder, txn)
        raise WriteFailed(f"{here.folder}: {error.strerror}", "free space") from error


class Arming:
    """Arms the guard of one transaction; ``guard`` is it, for a caller that waits for the end."""

    def __init__(self, here: HostSession) -> None:
        """Remember the session."""
        self._here = here
        self.guard: Optional[guard.Guard] = None

    def __call__(self, txn: str, begin: Begin) -> guard.Guard:
        """Arm the guard; warn if it is weaker than it should be.

        Of an apply, the undo script is written first.
        """
        if begin.kind == "apply":
            write_undo(self._here, txn, begin.changes)
        arm = self._here.arm or guard.arm
        self.guard = arm(self._here.folder, txn, begin, self._here.window)
        if self.guard.note:
            self._here.notify(self.guard.note)
        return self.guard


def begin(
    here: HostSession,
    kind: Kind,
    changes: tuple[Change, ...],
    agreed: Consent,
    *,
    plan: Optional[Plan] = None,
    undoes: tuple[str, ...] = (),
) -> Begin:
    """Return the ``begin`` record: what the journal has before the first write."""
    return Begin(
        kind=kind,
        changes=built_in.before_ours(changes, here.held),
        tool=__version__,
        host=here.host.name,
        machine_id=here.host.machine_id,
        boot_id=here.host.boot_id,
        user=actor.user(),
        command=actor.command(),
        plan_id=(plan.approved or plan.id) if plan else "",
        policy=plan.policy.names if plan else (),
        undoes=undoes,
        policy_digest=plan.policy.digest if plan else "",
        login_uid=actor.login_uid(),
        ssh_from=actor.ssh_from(),
        change_id=here.ticket.change_id,
        comment=here.ticket.comment,
        approver=here.ticket.approver or (agreed.who if agreed.how == "question" else ""),
        findings=_answered(plan, changes) if plan else (),
        uid=actor.uid(),
    )


def _answered(plan: Plan, changes: tuple[Change, ...]) -> tuple[Finding, ...]:
    """Return the findings that the changes answer, with their evidence, for auditors."""
    wanted = {name for change in changes for name in change.answers}
    return tuple(finding for finding in plan.scan.findings if finding.id in wanted)
