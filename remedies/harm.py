"""Do our own fixes do harm? Judged on what is in force and on facts newer than it. Pure.

Two kinds are looked for. A rule of ours that drops INVALID segments hits connections that are in
good health but of which conntrack sees one direction only. And a service that is kept out of
conntrack, where NAT for it has come to be since: its guard would refuse it now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional

from remedies import planning
from remedies.facts import Facts
from remedies.facts.oneway import Oneway
from remedies.model import Finding, Held, Terms
from remedies.netfilter.own_rules import rules_of
from remedies.values import NamedTuple, dataclass


@dataclass(frozen=True)
class Harm:
    """What one of our resources does that it should not."""

    resource: str
    fix: str
    reason: str


class InUse(NamedTuple):
    """One fix in force, with what it was decided on."""

    fix: str
    resource: str
    finding: Optional[Finding]
    terms: Terms


def drops_invalid(held: Mapping[str, Held]) -> tuple[Held, ...]:
    """Return the resources in force whose rules drop INVALID segments."""
    return tuple(
        entry
        for entry in held.values()
        if any(
            rule.action == "drop" and "invalid" in rule.match.states
            for rule in rules_of(entry.resource, entry.ours)
        )
    )


def of_drops(dropping: Iterable[Held], oneway: Oneway) -> tuple[Harm, ...]:
    """Return the harm that INVALID drops do to connections seen in one direction only."""
    if not oneway.proven:
        return ()
    way = oneway.proven[0].original
    more = f" and {len(oneway.proven) - 1} more" if len(oneway.proven) > 1 else ""
    reason = (
        f"it drops segments of healthy connections: conntrack has seen one direction only of "
        f"{way.source}:{way.source_port} -> {way.destination}:{way.destination_port}{more} "
        "(SYN_SENT), which goes on by another way"
    )
    return tuple(Harm(entry.resource, entry.fix, reason) for entry in dropping)


def untracks(entry: Held) -> bool:
    """Tell whether a resource in force takes packets out of conntrack."""
    return any(rule.action == "notrack" for rule in rules_of(entry.resource, entry.ours))


def of_guards(in_use: Iterable[InUse], facts: Facts) -> tuple[Harm, ...]:
    """Return the fixes that would be refused if they were asked for now, and why.

    What cannot be judged is no harm.
    """
    found = []
    for use in in_use:
        reason = planning.refusal(use.fix, use.finding, facts, use.terms)
        if reason is not None and not reason.startswith(planning.BLIND):
            found.append(Harm(use.resource, use.fix, f"it would be refused now: {reason}"))
    return tuple(found)
