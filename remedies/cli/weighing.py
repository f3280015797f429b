"""What a plan means for the session that applies it, and who else writes the same settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from remedies.errors import RemedyError, Unreadable, UsageError
from remedies.facts.gather import read_facts
from remedies.planning import lockout
from remedies.values import replace

if TYPE_CHECKING:
    from remedies.cli.session import Session
    from remedies.facts import Facts
    from remedies.facts.oneway import Oneway
    from remedies.model import Change, Plan

CONFIRM = 120.0
"""Seconds to wait for a confirmation that nobody asked for."""


def weigh(here: Session, plan: Plan, facts: Facts) -> Plan:
    """Return a plan with the figures of each change, and with warnings.

    What it costs goes into ``impact``; what it does to this session, and who would undo it, are
    warnings. ``facts`` are those that it was made from.
    """
    from remedies.facts.owners import Owners
    from remedies.planning import cost

    kinds = (*lockout.NEEDS, Owners, *cost.NEEDS)
    seen = read_facts(here.host, kinds, before=facts.known)
    facts = replace(facts, known=seen.known)
    oneway = _oneway(here, plan)
    changes = tuple(
        change
        if change.boot or change.after is None
        else replace(change, impact=f"{change.impact}; {_figures(change, facts, oneway)}")
        for change in plan.changes
    )
    return replace(plan, changes=changes, warnings=plan.warnings + _hints(plan, seen))


def _hints(plan: Plan, facts: Facts) -> tuple[str, ...]:
    from remedies.facts.owners import Owners, concerning

    said = [
        f"{i.resource}: {i.reason}" + ("; see --confirm-timeout" if i.severity == "severe" else "")
        for i in lockout.judge(plan, facts)
        if i.severity != "none"
    ]
    owners = facts.get(Owners)
    for change in plan.changes:
        if not change.boot and change.after is not None:
            said += [f"{change.resource}: {line}" for line in concerning(change.resource, owners)]
    return tuple(dict.fromkeys(said))


def _figures(change: Change, facts: Facts, oneway: Optional[Oneway]) -> str:
    from remedies.planning import cost
    from remedies.transaction.host import HostResources

    reads = HostResources()
    stale: list[str] = []
    full, unknown = False, ""
    for effect in change.effects:
        try:
            found = (reads.read(effect) or "").splitlines()
        except RemedyError as error:
            unknown = str(error)
            break
        stale += found
        full = full or len(found) >= cost.COUNTED
    return cost.text(cost.of(change, facts, stale, oneway=oneway, more=full, unknown=unknown))


def _oneway(here: Session, plan: Plan) -> Optional[Oneway]:
    """Look for connections that an INVALID drop would cut; listen only where there may be some."""
    from remedies.planning import cost
    from remedies.rules.own_rules import rules_of

    if not any(cost.drops_invalid(rules_of(c.resource, c.after)) for c in plan.changes):
        return None
    from remedies.facts.oneway import Oneway

    for window in (0.0, here.args.window):
        try:
            seen = read_facts(here.host, (Oneway,), window=window).get(Oneway)
        except Unreadable:
            return None
        if not seen.suspects:
            break
    return seen


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
    facts = read_facts(here.host, lockout.NEEDS)
    worst, *_ = lockout.judge(plan, facts)
    if worst.severity == "severe":
        raise UsageError(
            f"this can cut you off: {worst.resource}: {worst.reason}",
            "add --confirm-timeout TIME, so that it is undone unless 'remedy confirm' comes in "
            f"time, or --confirm={here.host.name} if you mean it",
        )
    return CONFIRM if worst.severity != "none" and lockout.is_remote(facts) else None
