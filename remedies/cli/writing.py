"""What apply and rollback share: permission, consent, recovery, and how they tell the end."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Optional

from remedies import __version__
from remedies.cli import interrupted, session
from remedies.cli.parser import warn
from remedies.cli.render import plan_text as _plan_text
from remedies.cli.terminal import Style, local
from remedies.errors import Locked, NotPermitted, RemedyError, UsageError, WriteFailed
from remedies.transaction import actor, bootguard, consent, guard, state, undo, undofile
from remedies.transaction.consent import Consent
from remedies.transaction.host import HostResources
from remedies.transaction.ledger import Begin, checkpoint, to_roll_back, unfinished

if TYPE_CHECKING:
    from remedies.cli.session import Session
    from remedies.model import Change, Finding, Plan
    from remedies.transaction.journal import Journal
    from remedies.transaction.ledger import Transaction
    from remedies.transaction.store import Result


def need_root(verb: str) -> None:
    """Raise NotPermitted for anybody but root."""
    if os.geteuid() != 0:
        raise NotPermitted(f"'remedy {verb}' changes the host", "run as root, or use --dry-run")


def prepare(here: Session) -> str:
    """Make this namespace's state folder and return it."""
    return state.prepare(here.args.state_dir, here.host.netns)


def at_work(
    verb: str, args: argparse.Namespace, write: Callable[[argparse.Namespace, Session], int]
) -> int:
    """Run ``write`` as root, with a state folder; say what is left where a signal stops it."""
    need_root(verb)
    here = session.start(args)
    prepare(here)
    try:
        return write(args, here)
    except interrupted.SIGNALS:
        if interrupted.tell(here):
            return 4
        raise


def recover(here: Session, journal: Journal) -> Session:
    """Undo what a dead writer left behind or nobody confirmed, and say so.

    Raises Locked where a transaction still waits for its confirmation. Hold the lock.
    """
    agreed = consent.recovering(dry_run=here.args.dry_run)
    for entry in unfinished(here.ledger):
        why = guard.situation(here.folder, entry, here.host.boot_id)
        if why == "pending" and entry.pending is not None:
            raise Locked(
                f"transaction {entry.id} waits to be confirmed until {local(entry.pending.until)}",
                "'remedy confirm' keeps it, 'remedy rollback' undoes it now",
            )
        last = not guard.alive(here.folder, entry.id)  # else it goes on where this has failed
        result = undo.recover(HostResources(), journal, entry, why, agreed, last=last)
        guard.nudge(here.folder, entry.id)
        warn(f"transaction {entry.id} was never finished: it was undone now ({result.outcome})")
        if result.stuck:
            raise RemedyError(
                f"transaction {entry.id} cannot be undone: {'; '.join(result.stuck)}",
                "mend that first",
            )
        recorded(result)
    here = sweep(here)
    if journal.full:
        journal.rotate(checkpoint(here.ledger))
    return here


def sweep(here: Session) -> Session:
    """Remove what transactions that are over left beside the journal; return it read again."""
    here = session.reread(here)
    guard.sweep(here.folder)
    bootguard.sweep(here.folder, {entry.id for entry in unfinished(here.ledger)})
    undofile.sweep(here.folder, to_roll_back(here.ledger).keys())
    return here


def waiting(here: Session) -> Optional[Transaction]:
    """Return the transaction that somebody could still confirm, if there is one."""
    for entry in unfinished(here.ledger):
        if guard.situation(here.folder, entry, here.host.boot_id) in ("pending", "unguarded"):
            return entry
    return None


def recorded(result: Result) -> None:
    """Raise RemedyError where the journal does not say what has become of a transaction."""
    if result.unrecorded:
        raise RemedyError(
            f"transaction {result.transaction} was undone, but that is not on record: "
            f"{result.unrecorded}",
            "free space, then 'remedy rollback' closes it",
        )


def write_undo(here: Session, txn: str, changes: tuple[Change, ...]) -> None:
    """Write the way back without this tool; raise WriteFailed where that does not work."""
    try:
        undofile.write(here.folder, txn, undofile.script(txn, here.host.netns, changes))
    except OSError as error:
        undofile.remove(here.folder, txn)
        raise WriteFailed(f"{here.folder}: {error.strerror}", "free space") from error


class Arming:
    """Arms the guard of one transaction, and keeps it for whoever wants to wait for its end."""

    def __init__(self, here: Session) -> None:
        """Remember the session."""
        self._here = here
        self._window = float(getattr(here.args, "window", 0.0))
        self.guard: Optional[guard.Guard] = None

    def __call__(self, txn: str, begin: Begin) -> guard.Guard:
        """Arm; say so where the guard is weaker than it should be.

        The way back without this tool is written down too.
        """
        if begin.kind == "apply":
            write_undo(self._here, txn, begin.changes)
        self.guard = guard.arm(self._here.folder, txn, begin, self._window)
        if self.guard.note:
            warn(self.guard.note)
        return self.guard


def default_confirm(here: Session, plan: Plan) -> Optional[float]:
    """Return how long to wait for a confirmation that nobody asked for; None for not at all.

    Raises UsageError where the plan can cut off whoever applies it and nobody has said so.
    """
    from remedies.cli import weighing

    return weighing.confirm_time(here, plan)


def ask(args: argparse.Namespace, question: str, what: str = "the host") -> Consent:
    """Return the consent of ``--yes``, or of the person who answers.

    Raises UsageError where nobody can be asked, RemedyError where the answer is not yes, and
    TypeError in a dry run: it has to end before it asks.
    """
    who = actor.user()
    agreed = consent.stated(args.yes, who, dry_run=args.dry_run)
    if agreed is not None:
        return agreed
    if args.no_input or not sys.stdin.isatty():
        raise UsageError(f"this changes {what} and nobody can be asked", "add --yes")
    sys.stdout.flush()
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    agreed = consent.answered(sys.stdin.readline(), who, dry_run=args.dry_run)
    if agreed is None:
        raise RemedyError("nothing was changed", "answer y to go on")
    return agreed


def begin(
    here: Session,
    kind: str,
    changes: tuple[Change, ...],
    agreed: Consent,
    *,
    plan: Optional[Plan] = None,
    undoes: tuple[str, ...] = (),
) -> Begin:
    """Return what the journal says before the first write."""
    return Begin(
        kind=kind,
        changes=changes,
        tool=__version__,
        host=here.host.name,
        machine_id=here.host.machine_id,
        boot_id=here.host.boot_id,
        user=actor.user(),
        command=actor.command(),
        plan_id=plan.id if plan else "",
        policy=plan.policy.names if plan else (),
        undoes=undoes,
        policy_digest=plan.policy.digest if plan else "",
        login_uid=actor.login_uid(),
        ssh_from=actor.ssh_from(),
        change_id=here.args.change_id,
        comment=here.args.message,
        approver=here.args.approved_by or (agreed.who if agreed.how == "question" else ""),
        findings=_answered(plan, changes) if plan else (),
        uid=actor.uid(),
    )


def _answered(plan: Plan, changes: tuple[Change, ...]) -> tuple[Finding, ...]:
    """Return the findings that the changes answer, evidence and all: what an auditor asks for."""
    wanted = {name for change in changes for name in change.answers}
    return tuple(finding for finding in plan.scan.findings if finding.id in wanted)


def warn_of(plan: Plan) -> None:
    """Say on standard error what a plan warns of."""
    for warning in plan.warnings:
        warn(warning)


def plan_text(args: argparse.Namespace, plan: Plan, style: Style) -> str:
    """Return a plan as text, its warnings on standard error."""
    warn_of(plan)
    return _plan_text(plan, style, verbose=args.verbose) + "\n"
