"""UDP flows that are older than the NAT rule which would send them on.

NAT is decided for the first packet of a flow; a rule that is made later changes nothing for it
(nf_nat_inet_fn() looks the rules up for a new connection alone). A client that goes on asking from
one port keeps such a flow alive for ever. Rules are read only where a request has no answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Optional

from remedies.errors import Unreadable
from remedies.facts.flows import Flows
from remedies.facts.nat import of_packets
from remedies.facts.netfilter import Netfilter
from remedies.facts.pairs import here
from remedies.facts.routes import Routes
from remedies.netlink.flow import Flow, Tuple
from remedies.netlink.links import Links
from remedies.rules.invalid_packet import target
from remedies.rules.matching import conjoin, covers, packets_of
from remedies.rules.prefixes import contains
from remedies.rules.rule import Match, NatAction, PacketRule
from remedies.values import dataclass, replace

if TYPE_CHECKING:
    from remedies.facts import Asking

AFTER = ("flows", "links", "netfilter", "routes")

MOST = 1000
"""Flows that are named."""
_SENDS_ON: tuple[NatAction, ...] = ("dnat", "redirect")


@dataclass(frozen=True)
class StaleFlow:
    """A flow, and the rule of now that would have sent it elsewhere."""

    flow: Flow
    rule: PacketRule


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
    local = {item.address for item in links.addresses}
    asked = [flow for flow in flows.unreplied if not here(flow.original.source, local)]
    if not asked or not netfilter.nat:
        return Stale()
    rules, unread = of_packets(asking, _SENDS_ON, ("prerouting",), Match(protocols=("udp",)))
    return Stale(tuple(islice(stale(asked, rules, links, routes), MOST)), unread)


def stale(
    flows: Iterable[Flow], rules: Iterable[PacketRule], links: Links, routes: Routes
) -> Iterator[StaleFlow]:
    """Yield the unanswered flows that a rule of now would surely send elsewhere. Pure.

    Not where any rule that their packets may meet sends them where they go, or does not say where:
    each backend of a service counts. ``flows`` are those of others, ``rules`` DNAT and REDIRECT in
    prerouting, with the UDP packets that they see.
    """
    local = {item.address for item in links.addresses}
    for flow in flows:
        packet = _packet(flow.original, links, routes, local)
        version = "ip6" if ":" in flow.original.source else "ip"
        meeting = [
            rule
            for rule in rules
            if version in rule.versions and conjoin(rule.match, packet) is not None
        ]
        if any(_goes_there(rule, flow, local) for rule in meeting):
            continue
        sure = next((rule for rule in meeting if _surely(rule, packet)), None)
        if sure is not None:
            yield StaleFlow(flow, sure)


def _surely(rule: PacketRule, packet: Match) -> bool:
    return covers(rule.match, packet) and all(
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


def _packet(way: Tuple, links: Links, routes: Routes, local: Collection[str]) -> Match:
    """Return the packets of a flow's original direction, as prerouting sees them."""
    link = _arrives_by(way.source, links, routes)
    return replace(
        packets_of("udp", way),
        in_interfaces=(link,) if link else (),
        destination_local=here(way.destination, local),
        states=("new",),
    )


def _arrives_by(source: str, links: Links, routes: Routes) -> Optional[str]:
    """Return the link that a neighbour's packets come by; the only default route's for others."""
    for item in links.addresses:
        if contains(f"{item.address}/{item.prefix}", source):
            return links.name(item.link)
    family = 6 if ":" in source else 4
    ways = {name for each in routes.defaults if each.family == family for name in each.links}
    return next(iter(ways)) if len(ways) == 1 and not routes.policy_rules else None
