"""What apply and rollback share: permission, consent, recovery, and how they tell the end."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Optional

from remedies import __version__
from remedies.cli import session
from remedies.cli.parser import warn
from remedies.cli.render import plan_text as _plan_text
from remedies.cli.terminal import Style, clean
from remedies.errors import NotPermitted, RemedyError, UsageError
from remedies.transaction import actor, state, undo
from remedies.transaction.host import HostResources
from remedies.transaction.ledger import Begin, unfinished

if TYPE_CHECKING:
    from remedies.cli.session import Session
    from remedies.model import Change, Plan
    from remedies.transaction.journal import Journal


def need_root(verb: str) -> None:
    """Raise NotPermitted for anybody but root."""
    if os.geteuid() != 0:
        raise NotPermitted(f"'remedy {verb}' changes the host", "run as root, or use --dry-run")


def prepare(here: Session) -> str:
    """Make this namespace's state folder and return it."""
    return state.prepare(here.args.state_dir, here.host.netns)


def recover(here: Session, journal: Journal) -> Session:
    """Undo what a dead writer left behind, and say so."""
    for entry in unfinished(here.ledger):
        result = undo.recover(HostResources(), journal, entry)
        warn(f"transaction {entry.id} was never finished: it was undone now ({result.outcome})")
        if result.stuck:
            raise RemedyError(
                f"transaction {entry.id} cannot be undone: {'; '.join(result.stuck)}",
                "mend that first",
            )
    return session.reread(here)


def ask(args: argparse.Namespace, question: str) -> None:
    """Return if the person agrees; raise UsageError where nobody can be asked."""
    if args.yes:
        return
    if args.no_input or not sys.stdin.isatty():
        raise UsageError("this changes the host and nobody can be asked", "add --yes")
    sys.stdout.flush()
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise RemedyError("nothing was changed", "answer y to go on")


def begin(
    here: Session,
    kind: str,
    changes: tuple[Change, ...],
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
    )


def plan_text(args: argparse.Namespace, plan: Plan, style: Style) -> str:
    """Return a plan as text, its warnings on standard error."""
    for warning in plan.warnings:
        warn(warning)
    return _plan_text(plan, style, verbose=args.verbose) + "\n"


_OUTCOMES = {
    "applied": "Applied",
    "nothing": "Nothing to do: the host is as policy wants it.",
    "refused": "Nothing was changed: what policy wants was refused.",
    "rolled-back": "Failed and rolled back: the host is as before.",
    "incomplete": "Failed, and the rollback is incomplete.",
    "stale": "Nothing was changed: the plan is stale.",
}


def outcome_lines(
    outcome: str,
    transaction: Optional[str],
    verified: list[dict[str, str]],
    reason: str,
    stuck: tuple[str, ...],
) -> list[str]:
    """Return the end of an apply as text."""
    name = f" as transaction {transaction}." if outcome == "applied" else ""
    lines = [_OUTCOMES[outcome] + name]
    if reason:
        lines.append(f"  {clean(reason)}")
    lines += [f"  {v['condition']}: was {v['before']}, now {v['after']}" for v in verified]
    lines += [f"  stuck: {clean(item)}" for item in stuck]
    if outcome == "applied":
        lines.append("Next: 'remedy status' watches it, 'remedy rollback' undoes it.")
    return lines
