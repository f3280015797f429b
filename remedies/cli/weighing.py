"""What a plan means for the session that applies it, and who else writes the same settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from remedies import impact
from remedies.errors import UsageError
from remedies.probing import read_facts

if TYPE_CHECKING:
    from remedies.cli.session import Session
    from remedies.model import Plan

CONFIRM = 120.0
"""Seconds to wait for a confirmation that nobody asked for."""


def hints(here: Session, plan: Plan) -> tuple[str, ...]:
    """Return the warnings of a plan: what it does to this session, and who would undo it."""
    from remedies.facts.owners import Owners, concerning

    facts = read_facts(here.host, (*impact.NEEDS, Owners))
    said = [
        f"{i.resource}: {i.reason}" + ("; see --confirm-timeout" if i.severity == "severe" else "")
        for i in impact.judge(plan, facts)
        if i.severity != "none"
    ]
    owners = facts.get(Owners)
    for change in plan.changes:
        if not change.boot and change.after is not None:
            said += [f"{change.resource}: {line}" for line in concerning(change.resource, owners)]
    return tuple(dict.fromkeys(said))


def confirm_time(here: Session, plan: Plan) -> Optional[float]:
    """Return how long to wait for a confirmation that nobody asked for; None for not at all.

    Raises UsageError where the plan can cut off whoever applies it, and neither a time to confirm
    nor this host's name was given: ``--yes`` says nothing of the sort.
    """
    args = here.args
    if args.confirm_timeout is not None or not any(not c.boot for c in plan.changes):
        return None
    if args.confirm is not None:
        if args.confirm != here.host.name:
            raise UsageError(
                f"--confirm={args.confirm} does not name this host", f"it is {here.host.name}"
            )
        return None
    facts = read_facts(here.host, impact.NEEDS)
    worst, *_ = impact.judge(plan, facts)
    if worst.severity == "severe":
        raise UsageError(
            f"this can cut you off: {worst.resource}: {worst.reason}",
            "add --confirm-timeout TIME, so that it is undone unless 'remedy confirm' comes in "
            f"time, or --confirm={here.host.name} if you mean it",
        )
    return CONFIRM if worst.severity != "none" and impact.is_remote(facts) else None
