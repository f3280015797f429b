"""What a packet that was heard says of a notrack rule and a NAT rule that both see it. Pure.

A packet counts for a rule only where the rule's whole match covers it and no earlier rule may take
it first. Whether NAT saw it says conntrack: what is untracked has no flow, and makes none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Optional

from remedies.netlink.flow import Flow, Tuple
from remedies.netlink.links import Links
from remedies.rules.invalid_packet import target
from remedies.rules.matching import conjoin, covers, packets_of
from remedies.rules.overlap import CHOICES, overlap
from remedies.rules.prefixes import contains, single
from remedies.rules.rule import Match, PacketRule
from remedies.values import dataclass, replace

LEFT, UNDONE, REFUSED, UNANSWERED, ANSWERED, MOVES = (
    "left", "undone", "refused", "unanswered", "answered", "moves",
)  # fmt: skip
"""It left with an address that NAT should have changed; it answers a flow of NAT's, which conntrack
did not notice; nothing here takes it, and TCP said so; nobody answered it; it was answered although
NAT did not see it; it came, and no more is known. Strongest first."""
FAILED = (LEFT, UNDONE, REFUSED, UNANSWERED)
"""What proves that NAT fails a packet."""
ENDS = (*FAILED, ANSWERED, MOVES)

Pair = tuple[PacketRule, PacketRule]
"""A notrack rule, and a NAT rule that it takes packets from."""


@dataclass(frozen=True)
class HeardWay:
    """One way of packets, and what was heard of it."""

    protocol: str
    way: Tuple
    arrives: str = ""
    """The link by which rules see it come; empty: it was made here."""
    leaves: str = ""
    """The link by which rules see it leave; empty where it did not."""
    answered: bool = False
    """Something went the opposite way that is no reset."""
    refused: bool = False
    """A reset went the opposite way."""
    waited: bool = True
    """Long enough, or sent again: an answer would have been heard."""


def pairs(notracks: Iterable[PacketRule], nat: Iterable[PacketRule], links: Links) -> list[Pair]:
    """Return the rules of others that surely have packets in common."""
    rules = tuple(nat)
    return [
        (notrack, rule)
        for notrack in notracks
        if not notrack.ours
        for rule in rules
        if overlap(notrack, rule, links).answer == "yes"
    ]


def taken(heard: HeardWay, found: Iterable[Pair], links: Links) -> list[Pair]:
    """Return the pairs whose notrack rule surely takes these packets."""
    match = _match(heard, links)
    hook = "prerouting" if heard.arrives else "output"
    outside = heard.arrives or any(a.address == heard.way.source for a in links.addresses)
    return [p for p in found if outside and p[0].hook == hook and _met(p[0], match, heard)]


def ends(
    heard: HeardWay, found: Iterable[Pair], flow: Optional[Flow], links: Links
) -> Iterator[tuple[str, Pair]]:
    """Yield what became of packets, as :data:`ENDS` has it, for each pair that they are of.

    ``found`` are pairs of :func:`taken`; ``flow`` is what conntrack has for the way, in either
    direction.
    """
    match = replace(_match(heard, links), states=("new",))
    # An answer that is tracked begins a flow of its own, since conntrack saw no request.
    by_answer = heard.answered and flow is not None and flow.original == heard.way.reversed
    tracked = flow is not None and not by_answer
    for pair in found:
        nat = pair[1]
        if flow is not None and flow.nat and flow.reply == heard.way:
            if _began(nat, flow, heard.protocol):
                # What conntrack sees of an answer marks the flow; what leaves has been through NAT.
                yield (UNDONE if not heard.arrives or not flow.seen_reply else MOVES), pair
        elif nat.hook == "postrouting":
            leaving = replace(match, out_interfaces=(heard.leaves,))
            if heard.leaves and _met(nat, leaving, heard) and _changes(nat, heard, links):
                yield (MOVES if tracked else _past(heard, LEFT)), pair
        elif nat.hook in ("prerouting", "input") and heard.arrives:
            if _met(nat, match, heard):
                yield (MOVES if tracked else _past(heard, _silence(heard))), pair
        elif nat.hook == "output" and not heard.arrives and _met(nat, match, heard):
            yield (MOVES if tracked else _past(heard, LEFT)), pair


def _past(heard: HeardWay, failed: str) -> str:
    return ANSWERED if heard.answered else failed


def _silence(heard: HeardWay) -> str:
    if heard.refused:
        return REFUSED
    return UNANSWERED if heard.waited else MOVES


def _match(heard: HeardWay, links: Links) -> Match:
    way = heard.way
    return replace(
        packets_of(heard.protocol, way),
        in_interfaces=(heard.arrives,) if heard.arrives else (),
        out_interfaces=() if heard.arrives else (heard.leaves,),
        destination_local=any(a.address == way.destination for a in links.addresses),
        source_local=any(a.address == way.source for a in links.addresses),
    )


def _met(rule: PacketRule, packet: Match, heard: HeardWay) -> bool:
    """Tell whether a rule surely is what decides about a packet."""
    family = "ip6" if ":" in heard.way.source else "ip"
    others = tuple(name for name in rule.match.unmodelled if name not in CHOICES)
    return (
        rule.family in (family, "inet")
        and covers(replace(rule.match, unmodelled=others), packet)
        and all(conjoin(earlier, packet) is None for earlier in rule.after)
    )


def _began(nat: PacketRule, flow: Flow, protocol: str) -> bool:
    """Tell whether a NAT rule may be the one that a flow began with."""
    way = flow.original
    began = Match(
        protocols=(protocol,),
        sources=(single(way.source),),
        destination_ports=((way.destination_port, way.destination_port),),
    )
    return conjoin(nat.match, began) is not None


def _changes(nat: PacketRule, heard: HeardWay, links: Links) -> bool:
    """Tell whether source NAT would give a packet that leaves another address."""
    source = heard.way.source
    if nat.action == "masquerade":
        own = (a.address for a in links.addresses if links.name(a.link) == heard.leaves)
        return source not in own
    addresses = target(nat.to)[0]
    return bool(addresses) and not any(contains(prefix, source) for prefix in addresses)
