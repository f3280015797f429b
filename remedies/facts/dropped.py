"""Connections that stand still, or are reset, because a rule takes their segments for INVALID.

What stands still is heard (:mod:`remedies.facts.stalls`), and so are resets that are a firewall's
(:mod:`remedies.facts.tap`); the rules that the segments meet are read then, and only then.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Optional

from remedies.errors import Unreadable
from remedies.facts.netfilter import open_stores
from remedies.facts.stalls import Stall, Stalls
from remedies.facts.tap import Reset, Tap
from remedies.netfilter.lost import RESET, Taker, takers
from remedies.netfilter.stores import RuleStore
from remedies.netlink.flow import Tuple
from remedies.netlink.links import Links
from remedies.netlink.route import RTN_LOCAL, route_get
from remedies.netlink.socket import NETLINK_ROUTE, Netlink
from remedies.rules.matching import packets_of
from remedies.rules.rule import Match, PacketRule
from remedies.tap.streams import DATA, PASSING
from remedies.values import dataclass, replace

if TYPE_CHECKING:
    from remedies.facts import Asking

AFTER = ("links", "stalls", "tap")

REJECTED = "rejected"
"""Kind of a :class:`Stall` whose segments a rule answers with a reset."""

_MOST = 16
"""Connections whose way through the rules is looked at."""
_ENOUGH = 3
"""Those for which a rule is found: one proves it, and each reads whole chains."""


@dataclass(frozen=True)
class DroppedStream:
    """One direction of a connection, and the rule that drops its segments."""

    stall: Stall
    rule: PacketRule
    doubts: tuple[str, ...] = ()
    """Conditions that decide whether it does and that could not be judged; empty: it does."""


@dataclass(frozen=True)
class Dropped:
    """What stands still behind rules that drop INVALID."""

    streams: tuple[DroppedStream, ...] = ()
    """Those of which it is sure come first."""
    unread: tuple[str, ...] = ()


def read(asking: Asking) -> Dropped:
    """Read the rules that streams which stand still meet. Raises Unreadable without permission."""
    stalls, links = asking.earlier(Stalls), asking.earlier(Links)
    if stalls is None or links is None:
        raise Unreadable("TCP packets could not be captured")
    # conntrack has an entry, so it knows the connection; an INVALID segment is not part of it.
    known = [
        stall
        for stall in stalls.found
        if stall.flow is not None
        and (one_way(stall) or (stall.kind == DATA and stall.again and stall.flow.seen_reply))
    ]
    known += _rejected(asking.earlier(Tap), links.local)
    if not known:
        return Dropped()
    stores, unread = open_stores(asking.deadline())
    found: list[DroppedStream] = []
    for stall in known[:_MOST]:
        if sum(not each.doubts for each in found) == _ENOUGH:
            break
        try:
            taking = rules_of(stores, stall, links)
        except OSError as error:
            unread.append(f"route to {stall.way.destination}: {error.strerror}")
            continue
        except Unreadable as error:
            unread.append(str(error))
            continue
        found += [DroppedStream(stall, *taker) for taker in taking[:1]]
    found.sort(key=lambda each: bool(each.doubts))
    return Dropped(tuple(found), tuple(dict.fromkeys(unread)))


def one_way(stall: Stall) -> bool:
    """Tell whether conntrack has seen one direction alone of what goes on for both ends.

    No more than a SYN: the client sends on, so it was answered by another way.
    """
    return stall.flow is not None and not stall.flow.seen_reply and stall.kind in (DATA, PASSING)


def rules_of(stores: list[RuleStore], stall: Stall, links: Links) -> list[Taker]:
    """Return the rules that take a stream's segments for being INVALID, those surely first.

    Those of one that a reset answers are the rules that send it. Raises OSError where no route
    leads on, and Unreadable.
    """
    family = "ip6" if ":" in stall.way.source else "ip"
    found = takers(stores, _packet(stall, links), family)
    taking = [each for each in found if stall.kind != REJECTED or each.rule.action == RESET]
    return sorted(taking, key=lambda each: bool(each.doubts))


def _rejected(tap: Optional[Tap], local: Collection[str]) -> list[Stall]:
    """Return the connections whose segments a firewall seems to have answered with a reset.

    Those that NAT rewrites are :mod:`remedies.conditions.tcp_invalid_reset`'s. A program here ends
    its own connection by a reset with ACK, which REJECT's to a segment never has
    (nf_reject_ip_tcphdr_put(), net/ipv4/netfilter/nf_reject_ipv4.c).
    """
    return [
        Stall(_answered(reset), REJECTED, reset.count, reset.count, reset.flow)
        for reset in (() if tap is None else tap.resets)
        if reset.flow is not None
        and reset.flow.seen_reply
        and not reset.flow.nat
        and not reset.acknowledges
        and (reset.answers is False or (reset.answers is None and reset.source not in local))
    ]


def _answered(reset: Reset) -> Tuple:
    """Return the way of the segment that a reset answers."""
    return Tuple(reset.destination, reset.destination_port, reset.source, reset.source_port)


def _packet(stall: Stall, links: Links) -> Match:
    """Return the packets of a stream, as a rule sees them before NAT.

    Raises OSError where no route leads on, and Unreadable.
    """
    way = stall.way
    arrives = None if stall.link is None else links.of_rules(stall.link)
    with Netlink(NETLINK_ROUTE) as client:
        if stall.kind == REJECTED:  # by the link that its answer leaves by
            arrives = route_get(client, way.source).link
        goes = route_get(client, way.destination, way.source, arrives)
    here = goes.kind == RTN_LOCAL
    return replace(
        packets_of("tcp", way),
        in_interfaces=() if arrives is None else (links.name(arrives),),
        out_interfaces=() if here else (links.name(goes.link),),
        destination_local=here,
        source_local=any(a.address == way.source for a in links.addresses),
    )
