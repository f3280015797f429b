"""Do our own fixes do harm? Judged on what is in force and on facts newer than it. Pure.

Three kinds are looked for:

- a rule of ours drops segments of connections of which conntrack sees one direction only;
- a rule of ours counted drops while connections stalled whose segments it may have dropped: a
  SYN-ACK that arrived and did not leave, data that was sent again and never acknowledged;
- a service is kept out of conntrack, and NAT for it was added since: its guard would refuse it now.

The packet socket cannot see which rule drops a segment, and the rule's counter not which segment it
drops. Together they can: a connection is named if the rule counted at least as many packets in the
same time as the connection lost. One that ends, is silent, or goes on elsewhere in the stream is
no harm (:mod:`remedies.tap.streams`).

Connections are not sampled before the write. That would take a second window of listening to all
TCP and show no more: a stalled connection is named by its tuple anyway, one that begins after the
write has no sample, and only the counter tells which rule dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts import asked as asks
from remedies.facts.asked import Asked, Request
from remedies.facts.oneway import Oneway
from remedies.facts.stalls import Stall, Stalls
from remedies.model import Finding, Held, Terms
from remedies.planning import cost, draft
from remedies.printable import at, both_ends
from remedies.rules import kinds
from remedies.rules.kinds import rules_of
from remedies.tap.streams import DATA, HANDSHAKE, PASSING, SYN_ACK
from remedies.values import NamedTuple, dataclass

PATIENCE = 0.5
"""Seconds that a UDP request may wait for its answer before it counts as not answered."""


@dataclass(frozen=True)
class Harm:
    """Harm that one of our resources does."""

    resource: str
    fix: str
    reason: str


class InUse(NamedTuple):
    """One fix in force, with the finding and terms it was applied for."""

    fix: str
    resource: str
    finding: Optional[Finding]
    terms: Terms


def dropping(held: Iterable[Held]) -> tuple[Held, ...]:
    """Return the resources in force whose rules drop packets, whatever address they are for.

    What a rule drops by address it is meant to keep out: that such a connection stands still is
    no harm.
    """
    return tuple(
        entry
        for entry in held
        if any(
            rule.action == "drop" and not rule.match.destinations
            for rule in rules_of(entry.resource, entry.ours)
        )
    )


def of_drops(drops: Iterable[Held], oneway: Oneway) -> tuple[Harm, ...]:
    """Return the harm that INVALID drops do to connections seen in one direction only."""
    if not oneway.proven:
        return ()
    way = oneway.proven[0].original
    both = both_ends(*way.parts)
    more = f" and {len(oneway.proven) - 1} more" if len(oneway.proven) > 1 else ""
    reason = (
        f"it drops segments of healthy connections: conntrack has seen one direction only of "
        f"{both}{more} (SYN_SENT); the other takes another route"
    )
    return tuple(
        Harm(entry.resource, entry.fix, reason)
        for entry in drops
        if cost.drops_invalid(rules_of(entry.resource, entry.ours))
    )


def of_stalls(drops: Iterable[tuple[Held, int]], stalls: Stalls) -> tuple[Harm, ...]:
    """Return the harm of rules that drop; each comes with the packets it counted meanwhile."""
    found = []
    for entry, counted in drops:
        cut = [
            stall
            for stall in stalls.found
            if stall.count <= counted and _reaches(entry.resource, stall) and _cut(stall)
        ]
        if cut:
            more = f" and {len(cut) - 1} more" if len(cut) > 1 else ""
            reason = (
                f"it dropped {counted} packets in {stalls.listened:g} s, and {_told(cut[0])}{more}"
            )
            found.append(Harm(entry.resource, entry.fix, reason))
    return tuple(found)


def redirected(held: Iterable[Held]) -> tuple[tuple[Held, str, int], ...]:
    """Return interface and port of every redirect of UDP in force."""
    return tuple(
        (entry, link, port)
        for entry in held
        for rule in rules_of(entry.resource, entry.ours)
        if rule.action == "redirect" and "udp" in rule.match.protocols
        for link in rule.match.in_interfaces
        for port, _ in rule.match.destination_ports
    )


def of_redirects(
    redirects: Iterable[tuple[Held, str, int]], counted: Mapping[str, int], asked: Asked
) -> tuple[Harm, ...]:
    """Return the harm of redirects whose requests are lost where they are sent to.

    ``counted``: the new flows that each resource redirected meanwhile; a request that was dropped
    came by no flow, so each try of it counts. One client that is served by the interface shows
    that the way was open until then. One question alone that is lost proves nothing: it may have
    come while the rule was written.
    """
    found = []
    for entry, link, port in redirects:
        heard = [r for r in asked.requests if (r.link, r.way.destination_port) == (link, port)]
        new = counted.get(entry.resource, 0)
        lost = [r for r in heard if r.age >= PATIENCE and _lost(r, new, heard)]
        clients = {(r.way.source, r.way.source_port) for r in lost}
        if len(clients) > 1 or any(request.count > 1 for request in lost):
            way = lost[0].way
            who = f"{at(way.source, way.source_port)} asked {at(way.destination, port)} by {link}"
            reason = (
                f"{who} and {_LOST[lost[0].end]}; no client that asked there since got an answer"
            )
            found.append(Harm(entry.resource, entry.fix, reason))
    return tuple(found)


_LOST = {
    asks.DROPPED: "was not answered: a rule dropped the request",
    asks.MISSED: "was not answered: no socket listens at the interface's address",
    asks.UNSENT: "was not answered: a rule dropped the answer",
}


def _lost(request: Request, new: int, heard: Iterable[Request]) -> bool:
    """Tell whether a request was lost behind a redirect that counted so many new flows."""
    if request.end not in _LOST or (request.end == asks.DROPPED and request.count > new):
        return False
    open_for = (asks.ANSWERED,) if request.end == asks.UNSENT else (asks.ANSWERED, asks.TAKEN)
    return not any(other.end in open_for and other.age <= request.age for other in heard)


def _reaches(resource: str, stall: Stall) -> bool:
    """Tell whether a resource's rules see packets of this IP version."""
    kind, path = kinds.of(resource)
    return kind.family(path) in ("inet", "ip6" if ":" in stall.way.source else "ip")


def _cut(stall: Stall) -> bool:
    """Tell whether a segment of a connection that stands still may have been INVALID.

    Data may have been. Others only if conntrack has no flow, or (not for a SYN-ACK) no reply
    yet: what it has seen whole may leave under NAT's address, and is not lost.
    """
    flow = stall.flow
    if stall.kind == DATA:
        return True
    return flow is None if stall.kind == SYN_ACK else flow is None or not flow.seen_reply


def _told(stall: Stall) -> str:
    """Return what became of a connection, in words."""
    way = stall.way
    both = both_ends(*way.parts)
    return {
        DATA: f"data of {both} arrived {stall.count} times and was never acknowledged",
        SYN_ACK: f"the SYN-ACK {both} arrived {stall.count} times and was not forwarded",
        HANDSHAKE: f"{both} was accepted here, and conntrack has no entry for it",
        PASSING: f"{stall.count} segments {both} arrived and were not forwarded",
    }[stall.kind]


def untracks(entry: Held) -> bool:
    """Tell whether a resource in force takes packets out of conntrack."""
    return any(rule.action == "notrack" for rule in rules_of(entry.resource, entry.ours))


def of_guards(in_use: Iterable[InUse], facts: Facts) -> tuple[Harm, ...]:
    """Return the fixes that would be refused if they were asked for now, and why.

    A guard that cannot be decided is no harm.
    """
    found = []
    for use in in_use:
        reason = draft.refusal(use.fix, use.finding, facts, use.terms)
        if reason is not None and not reason.startswith(draft.BLIND):
            found.append(Harm(use.resource, use.fix, f"it would be refused today: {reason}"))
    return tuple(found)
