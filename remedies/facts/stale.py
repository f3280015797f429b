"""Flows that today's NAT rules would not send where they go.

NAT is decided for the first packet of a flow; a rule that is made or deleted later changes nothing
for it (nf_nat_inet_fn() looks the rules up for a new connection alone). A client that goes on
asking from one port keeps such a flow alive for ever. Rules are read only where a request has no
answer, or an answered one goes to a neighbour that is not there any more.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Optional

from remedies.errors import Unreadable
from remedies.facts.flows import Flows
from remedies.facts.nat import of_packets
from remedies.facts.netfilter import Netfilter
from remedies.facts.pairs import here
from remedies.facts.routes import Routes
from remedies.netlink import conntrack, conntrack_entry, diag, neighbours, route
from remedies.netlink.flow import Flow
from remedies.netlink.links import Links
from remedies.netlink.socket import NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG, Netlink
from remedies.rules.invalid_packet import target
from remedies.rules.matching import conjoin, covers, packets_of
from remedies.rules.prefixes import contains
from remedies.rules.rule import ONE_OF_ALL, Match, NatAction, PacketRule
from remedies.rules.sought import Sought
from remedies.values import dataclass, replace

if TYPE_CHECKING:
    from remedies.facts import Asking

AFTER = ("flows", "links", "netfilter", "routes")

MOST = 1000
"""Flows that are named."""
_SENDS_ON: tuple[NatAction, ...] = ("dnat", "redirect")
_SERVICES = 64
"""Services asked for, up to which big maps of verdicts are followed for these alone."""
_TARGETS = 64
"""Targets whose route is asked for."""
_SETTLES = 0.25
"""Seconds in which a host that is there answers: a neighbour's address, or a SYN."""
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES)
_REFUSING = (6, 7, 8)  # RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT (linux/rtnetlink.h)


@dataclass(frozen=True)
class StaleFlow:
    """A flow, and what today's rules would do with it."""

    flow: Flow
    rule: Optional[PacketRule] = None
    """The rule that would send it elsewhere; None: no rule would send it on at all."""
    gone: str = ""
    """Why nothing is where it goes; empty: not known."""


@dataclass(frozen=True)
class Stale:
    """The stale flows of this namespace, at most :data:`MOST`."""

    found: tuple[StaleFlow, ...] = ()
    unread: tuple[str, ...] = ()
    """Rules that could not be read: what they send on is not known."""


def read(asking: Asking) -> Stale:
    """Read the rules that unanswered requests of others meet. Raises Unreadable."""
    flows, links = asking.earlier(Flows), asking.earlier(Links)
    netfilter, routes = asking.earlier(Netfilter), asking.earlier(Routes)
    if flows is None or links is None or netfilter is None or routes is None:
        raise Unreadable("flows, links, routes or rules could not be read")
    if not netfilter.nat:
        return Stale()
    local = links.local
    unanswered = [*flows.unreplied, *flows.opening]
    gone = _gone(asking, unanswered, links, local)
    asked = [
        flow
        for flow in (*unanswered, *_answered(asking, gone))
        if not (flow.zone or flow.fixed or here(flow.original.source, local))
    ]
    if not asked:
        return Stale()
    taken = _ports(asking) if any(here(flow.reply.source, local) for flow in asked) else ()
    asked = [f for f in asked if not (here(f.reply.source, local) and _heard(f, taken))]
    rules, unread = _rules(asking, asked)
    found = stale(asked, rules, links, routes, gone, complete=not unread)
    return Stale(tuple(_lasting(asking, list(islice(found, MOST)))), unread)


def _ports(asking: Asking) -> frozenset[tuple[str, int]]:
    """Return address and port of the UDP sockets here that anybody may send to; empty: any."""
    try:
        with Netlink(NETLINK_SOCK_DIAG, asking.deadline()) as client:
            found = {("", item.port) for item in diag.wildcard_udp(client)}
            for item in diag.bound_udp(client):
                if not item.peer_port:
                    family = socket.AF_INET if len(item.address) == 4 else socket.AF_INET6
                    found.add((socket.inet_ntop(family, item.address), item.port))
            return frozenset(found)
    except OSError as error:
        raise Unreadable(f"UDP sockets (sock_diag): {error.strerror}") from error


def _heard(flow: Flow, ports: Collection[tuple[str, int]]) -> bool:
    """Tell whether a process here takes what a UDP flow brings: its port is nobody else's."""
    address, port = flow.reply.source, flow.reply.source_port
    return flow.protocol == "udp" and (("", port) in ports or (address, port) in ports)


def _rules(asking: Asking, asked: Iterable[Flow]) -> tuple[tuple[PacketRule, ...], tuple[str, ...]]:
    services = {(flow.protocol, flow.original.destination_port) for flow in asked}
    protocols = tuple(sorted({protocol for protocol, _ in services}))
    among = tuple(
        Match(protocols=(protocol,), destination_ports=((port, port),))
        for protocol, port in sorted(services)
    )
    return of_packets(
        asking,
        _SENDS_ON,
        ("prerouting",),
        Match(protocols=protocols),
        Sought(among) if len(among) <= _SERVICES else None,
    )


def stale(
    flows: Iterable[Flow],
    rules: Iterable[PacketRule],
    links: Links,
    routes: Routes,
    gone: Mapping[str, str] = {},
    *,
    complete: bool = True,
) -> Iterator[StaleFlow]:
    """Yield the flows that today's rules would surely not send where they go. Pure.

    Not where any rule that their packets may meet sends them where they go, or does not say where:
    each backend of a service counts. An answered flow, and one that no rule would send on, is
    stale only where its target is ``gone`` (address to why). ``flows`` are those of others,
    ``rules`` DNAT and REDIRECT in prerouting, with the packets that they see; ``complete``: all
    of them.
    """
    local = links.local
    for flow in flows:
        packet = _packet(flow, links, routes, local)
        version = "ip6" if ":" in flow.original.source else "ip"
        meeting = [
            rule
            for rule in rules
            if version in rule.versions and conjoin(rule.match, packet) is not None
        ]
        why = gone.get(flow.reply.source, "")
        if (flow.seen_reply and not why) or any(_goes_there(r, flow, local) for r in meeting):
            continue
        sure = next((rule for rule in meeting if _surely(rule, packet)), None)
        if sure is None and _turned(flow) and complete and (meeting or why):
            yield StaleFlow(flow, meeting[0] if meeting else None, why)
        elif sure is not None:
            yield StaleFlow(flow, sure, why)


def _turned(flow: Flow) -> bool:
    """Tell whether NAT sends a flow elsewhere than it was sent."""
    asked = flow.original.destination, flow.original.destination_port
    return asked != (flow.reply.source, flow.reply.source_port)


def _surely(rule: PacketRule, packet: Match) -> bool:
    words = tuple(word for word in rule.match.unmodelled if word != ONE_OF_ALL)
    return covers(replace(rule.match, unmodelled=words), packet) and all(
        conjoin(earlier, packet) is None for earlier in rule.after
    )


def _goes_there(rule: PacketRule, flow: Flow, local: Collection[str]) -> bool:
    """Tell whether a rule may be what sends a flow where it goes."""
    address, port = flow.reply.source, flow.reply.source_port
    addresses, ports = target(rule.to)
    if rule.action == "redirect":
        fits = here(address, local)  # to the first address of the link it came by
    elif not addresses:
        return True  # it does not say where, or to a range
    else:
        fits = address in addresses
    wanted = ports or ((flow.original.destination_port, flow.original.destination_port),)
    return fits and any(first <= port <= last for first, last in wanted)


def _packet(flow: Flow, links: Links, routes: Routes, local: Collection[str]) -> Match:
    """Return the packets of a flow's original direction, as prerouting sees them."""
    way = flow.original
    link = _arrives_by(way.source, links, routes)
    return replace(
        packets_of(flow.protocol, way),
        in_interfaces=(link,) if link else (),
        destination_local=here(way.destination, local),
        source_local=here(way.source, local),
        states=("new",),
    )


def _arrives_by(source: str, links: Links, routes: Routes) -> Optional[str]:
    """Return the link that a neighbour's packets come by; the only default route's for others."""
    for item in links.addresses:
        if contains(item.subnet, source):
            return links.name(item.link)
    family = 6 if ":" in source else 4
    ways = {name for each in routes.defaults if each.family == family for name in each.links}
    return next(iter(ways)) if len(ways) == 1 and not routes.policy_rules else None


def _gone(
    asking: Asking, unanswered: Iterable[Flow], links: Links, local: Collection[str]
) -> dict[str, str]:
    """Return the addresses where surely nothing is, with why: no neighbour answers, or no route.

    Routes are asked for the targets of unanswered flows alone.
    """
    turned = (flow.reply.source for flow in unanswered if _turned(flow))
    targets = [end for end in dict.fromkeys(turned) if not here(end, local)]
    try:
        with Netlink(NETLINK_ROUTE, asking.deadline()) as client:
            found = _silent(client, links)
            for end in targets[:_TARGETS]:
                if end not in found and not _routed(client, end):
                    found[end] = "there is no route to it"
    except OSError as error:
        raise Unreadable(f"neighbours: {error.strerror}") from error
    return found


def _silent(client: Netlink, links: Links) -> dict[str, str]:
    """Return the neighbours that do not answer, with why. Raises OSError and Unreadable."""
    return {
        each.address: f"no neighbour answers for it on {links.name(each.link)}"
        for each in neighbours.neighbours(client, silent=True)
    }


def _routed(client: Netlink, address: str) -> bool:
    try:
        return route.route_get(client, address).kind not in _REFUSING
    except OSError as error:
        if error.errno in _NO_WAY:
            return False
        raise


def _answered(asking: Asking, gone: Collection[str]) -> list[Flow]:
    """Return the answered UDP flows whose target is gone, at most :data:`MOST`."""
    if not gone:
        return []
    try:
        with Netlink(NETLINK_NETFILTER, asking.deadline()) as client:
            found = islice(conntrack.answered_udp(client, gone), MOST)
            return [conntrack_entry.flow_of(entry) for entry in found]
    except OSError as error:
        raise conntrack.not_permitted(error) from error


def _lasting(asking: Asking, found: list[StaleFlow]) -> Iterator[StaleFlow]:
    """Yield those that are as they were after a moment in which what is there would answer.

    A SYN may be on its way while the rules change, and a neighbour be asked for the first time.
    Raises Unreadable.
    """
    if not any(each.gone or each.flow.protocol == "tcp" for each in found):
        yield from found
        return
    time.sleep(_SETTLES)
    try:
        with Netlink(NETLINK_ROUTE, asking.deadline()) as client:
            there = {each.address for each in neighbours.neighbours(client) if not each.silent}
        with Netlink(NETLINK_NETFILTER, asking.deadline()) as client:
            for each in found:
                way = each.flow.original
                if each.gone and each.flow.reply.source in there:
                    continue
                if each.flow.protocol == "tcp":
                    now = conntrack.flow_by_tuple(client, "tcp", way)
                    if now is None or not now.opening or now.reply != each.flow.reply:
                        continue
                yield each
    except OSError as error:
        raise conntrack.not_permitted(error) from error
