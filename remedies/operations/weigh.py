"""What a plan costs, whether it can cut off who applies it, and who else writes the same."""

from __future__ import annotations

from typing import Optional

from remedies.errors import RemedyError, Unreadable, UsageError
from remedies.facts import Facts
from remedies.facts.oneway import Oneway
from remedies.facts.owners import Owners, concerning
from remedies.model import Change, Plan
from remedies.operations.session import HostSession
from remedies.planning import cost, lockout
from remedies.rules.kinds import rules_of
from remedies.values import replace

CONFIRM = 120.0
"""Seconds to wait for a confirmation when the user gave no ``--confirm-timeout``."""


def weigh(here: HostSession, plan: Plan, facts: Facts) -> Plan:
    """Return a plan with the figures of each change, and with warnings.

    The cost goes into each change's ``impact``; what it does to this session, and which programs
    would overwrite it, are warnings. ``facts`` are those that it was made from.
    """
    kinds = (*lockout.NEEDS, Owners, *cost.NEEDS)
    seen = here.read(here.host, kinds, before=facts.known)
    facts = replace(facts, known=seen.known)
    oneway = _oneway(here, plan)
    changes = tuple(
        change
        if change.boot or change.after is None
        else replace(change, impact=f"{change.impact}; {_figures(here, change, facts, oneway)}")
        for change in plan.changes
    )
    return replace(plan, changes=changes, warnings=plan.warnings + _hints(plan, seen))


def _hints(plan: Plan, facts: Facts) -> tuple[str, ...]:
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


def _figures(here: HostSession, change: Change, facts: Facts, oneway: Optional[Oneway]) -> str:
    stale: list[str] = []
    full, unknown = False, ""
    for effect in change.effects:
        try:
            found = (here.store.read(effect) or "").splitlines()
        except RemedyError as error:
            unknown = str(error)
            break
        stale += found
        full = full or len(found) >= cost.COUNTED
    return cost.text(cost.of(change, facts, stale, oneway=oneway, more=full, unknown=unknown))


def _oneway(here: HostSession, plan: Plan) -> Optional[Oneway]:
    """Look for connections that an INVALID drop would cut; listen only where there may be some."""
    if not any(cost.drops_invalid(rules_of(c.resource, c.after)) for c in plan.changes):
        return None
    for window in (0.0, here.window):
        try:
            seen = here.read(here.host, (Oneway,), window=window).get(Oneway)
        except Unreadable:
            return None
        if not seen.suspects:
            break
    return seen


def confirm_time(
    here: HostSession, plan: Plan, timeout: Optional[float], named: Optional[str]
) -> Optional[float]:
    """Return how long to wait for a confirmation without ``--confirm-timeout``; None: do not wait.

    ``timeout`` is that of ``--confirm-timeout``, ``named`` the host of ``--confirm=HOST``.
    Raises UsageError if the plan can cut off who applies it and neither was given; ``--yes`` alone
    does not cover that.
    """
    if timeout is not None or not any(not c.boot for c in plan.changes):
        return None
    if named is not None:
        if named != here.host.name:
            raise UsageError(
                f"--confirm={named} does not name this host", f"it is {here.host.name}"
            )
        return None
    facts = here.read(here.host, lockout.NEEDS)
    worst, *_ = lockout.judge(plan, facts)
    if worst.severity == "severe":
        raise UsageError(
            f"this can cut you off: {worst.resource}: {worst.reason}",
            "add --confirm-timeout TIME, which undoes it unless 'remedy confirm' comes in time, "
            f"or --confirm={here.host.name} to apply it without a way back",
        )
    return CONFIRM if worst.severity != "none" and lockout.is_remote(facts) else None
