"""Flows that NAT gave an address which has left this host since, and what becomes of their packets.

The kernel ends the flows of ``masquerade`` with the address; those of ``snat to`` keep it
(nf_nat_masquerade.c), also after the rule is gone. A bounded number of flows is looked at. Only
addresses in the subnet of a link are judged: whoever has such an address must answer
for it on that link, and this host does not. Where it was led to this host from elsewhere, nobody
can tell from here.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from itertools import islice
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Asking, Unwatched, Watch, sysctl
from remedies.facts.nat import of_packets
from remedies.facts.netfilter import Netfilter
from remedies.facts.ring_watch import RingWatch
from remedies.facts.switches import key_of
from remedies.netlink import conntrack, conntrack_entry, neighbours
from remedies.netlink.conntrack_entry import IPS_SEEN_REPLY, family_of
from remedies.netlink.flow import Flow
from remedies.netlink.links import Links
from remedies.netlink.socket import NETLINK_NETFILTER, NETLINK_ROUTE, Netlink
from remedies.rules.invalid_packet import target
from remedies.rules.matching import conjoin, packets_of
from remedies.rules.prefixes import contains, single
from remedies.rules.rule import PacketRule
from remedies.tap import segments
from remedies.tap.ring import Packet
from remedies.values import dataclass, replace

AFTER = ("links", "netfilter")

LEAST = 2
"""Packets without an answer, below which the answer may be on its way."""
_LOOKED_AT = 4096
_COUNT = "net.netfilter.nf_conntrack_count"
_ADDRESSES = 16
_FLOWS = 256
_BLOCKS, _AT_ONCE = 8, 2


@dataclass(frozen=True)
class DepartedSource:
    """An address that NAT gives to flows, and that this host has no longer."""

    address: str
    link: str
    """The link in whose subnet it is, and on which nobody here answers for it."""
    flows: tuple[Flow, ...]
    count: int = 0
    """Packets that left with it while somebody listened, when nothing came back to it."""
    rule: Optional[PacketRule] = None
    """A rule that gives it to new flows, too."""


@dataclass(frozen=True)
class Departed:
    """The addresses of which packets left unanswered."""

    found: tuple[DepartedSource, ...] = ()
    unread: tuple[str, ...] = ()


def watch(asking: Asking) -> Watch[Departed]:
    """Look for such flows, and listen to them. Raises Unreadable where that is not permitted."""
    netfilter, links = asking.earlier(Netfilter), asking.earlier(Links)
    if netfilter is None or links is None:
        raise Unreadable("links or rules could not be read")
    actions = {use.action for use in netfilter.nat_uses if use.hook == "postrouting"}
    count = _tracked() if asking.window > 0 and actions & {"snat", "masquerade"} else 0
    if not count:
        return Unwatched(Departed())
    found = _departed(asking, links)
    # Where no rule names an address, only one that was there before may have left such flows.
    many = "snat" in actions and count > _LOOKED_AT
    unread = (f"the first {_LOOKED_AT} flows whose source NAT turned were looked at",) * many
    return _SourceWatch(asking, found, unread) if found else Unwatched(Departed(unread=unread))


class _SourceWatch(RingWatch):
    """Counts what leaves with each address, and notes what comes to it."""

    def __init__(
        self, asking: Asking, found: tuple[DepartedSource, ...], unread: tuple[str, ...]
    ) -> None:
        self._asking, self._found, self._unread = asking, found, unread
        self._left: dict[str, dict[int, int]] = {each.address: {} for each in found}
        self._answered: set[str] = set()
        super().__init__(segments.of_networks([single(a) for a in self._left]), _BLOCKS, _AT_ONCE)

    def _take(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            raw = segments.way_of(packet.content)
            if raw is None:
                continue
            way = segments.spell(raw)
            if packet.outgoing and way.source in self._left:
                by_link = self._left[way.source]
                by_link[packet.link] = by_link.get(packet.link, 0) + 1
            elif not packet.outgoing:
                self._answered.add(way.destination)

    def finish(self) -> Departed:
        self._rest()
        unread = self._unread
        silent = []
        for each in self._found:
            count = max(self._left[each.address].values(), default=0)
            if count < LEAST or each.address in self._answered:
                continue
            rule, gaps = _giving(self._asking, each)
            unread += gaps
            silent.append(replace(each, count=count, rule=rule))
        return Departed(tuple(silent), unread)


def _tracked() -> int:
    """Return how many flows conntrack holds: to ask itself would load its modules."""
    try:
        return int(sysctl.value(_COUNT))
    except OSError:
        return 0


def _departed(asking: Asking, links: Links) -> tuple[DepartedSource, ...]:
    """Return the addresses that flows have and this host has not."""
    flows: dict[str, list[Flow]] = {}
    local = links.local
    try:
        with Netlink(NETLINK_NETFILTER, asking.deadline()) as client:
            for entry in conntrack.turned_sources(client, _LOOKED_AT, local):
                # A datagram that nobody has ever answered may need no answer.
                if not entry.zone and (entry.protocol == "tcp" or entry.status & IPS_SEEN_REPLY):
                    end = entry.reply.destination
                    flows.setdefault(end, []).append(conntrack_entry.flow_of(entry))
    except OSError as error:
        raise conntrack.not_permitted(error) from error
    found = [
        DepartedSource(address, link, tuple(of_it[:_FLOWS]))
        for address, of_it in islice(flows.items(), _ADDRESSES)
        for link in _subnet_of(address, links)[:1]
        if not _proxies(address, link)
    ]
    answered = _answered_for(asking) if found else frozenset()
    return tuple(each for each in found if each.address not in answered)


def _subnet_of(address: str, links: Links) -> list[str]:
    return [links.name(item.link) for item in links.addresses if contains(item.subnet, address)]


def _proxies(address: str, link: str) -> bool:
    """Tell whether this host answers on a link for whatever it leads to."""
    six = family_of(address) == socket.AF_INET6
    name = "proxy_ndp" if six else "proxy_arp"
    keys = [key_of(each, name, 6 if six else 4) for each in (link, "all")]
    try:
        return any(sysctl.value(key) != "0" for key in keys)
    except OSError as error:
        raise Unreadable(f"neighbours: {error.strerror}") from error


def _answered_for(asking: Asking) -> frozenset[str]:
    """Return the single addresses of others for which this host answers."""
    try:
        with Netlink(NETLINK_ROUTE, asking.deadline()) as client:
            return frozenset(neighbours.answered_for(client))
    except OSError as error:
        raise Unreadable(f"neighbours: {error.strerror}") from error


def _giving(
    asking: Asking, departed: DepartedSource
) -> tuple[Optional[PacketRule], tuple[str, ...]]:
    """Return a rule that gives new packets of such a flow the same address, and what is unread."""
    flow = departed.flows[0]
    packet = replace(
        packets_of(flow.protocol, flow.original), destinations=(), destination_ports=()
    )
    rules, unread = of_packets(asking, ("snat",), ("postrouting",), packet)
    version = "ip6" if ":" in departed.address else "ip"
    giving = (
        rule
        for rule in rules
        if version in rule.versions
        and departed.address in target(rule.to)[0]
        and conjoin(rule.match, packet) is not None
    )
    return next(giving, None), unread
