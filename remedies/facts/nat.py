"""Every NAT rule with the packets it matches, read only where somebody asks about notrack."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Optional

from remedies.errors import Unreadable
from remedies.facts.netfilter import Netfilter, open_stores
from remedies.netfilter.walk import asked_for, collect
from remedies.netlink.links import Links
from remedies.rules.rule import NAT_ACTIONS, Match, NatAction, PacketRule
from remedies.rules.sought import Sought, Untracked, beside, of_protocols
from remedies.values import dataclass, replace

if TYPE_CHECKING:
    from remedies.facts import Asking

AFTER = ("netfilter", "links")
TOPIC = "nat-rules"
UDP_TOPIC = "udp-nat-rules"
SERVICE_TOPIC = "nat-rules-beside"
_UDP = Match(protocols=("udp",))
HOOKS = ("prerouting", "input", "output", "postrouting")
"""Where chains of the type nat can stand."""


@dataclass(frozen=True)
class Nat:
    """NAT rules of nft, iptables-nft and iptables-legacy.

    Read when ``netfilter`` saw a foreign notrack rule, or where a topic asks for them:
    ``nat-rules`` for all, ``udp-nat-rules`` for those that UDP can meet, :func:`service_topic` for
    those beside one service. Otherwise ``asked`` is False and ``rules`` says nothing. But for
    ``nat-rules``, those that cannot be about what is asked are left out.
    """

    asked: bool
    rules: tuple[PacketRule, ...] = ()
    unread: tuple[str, ...] = ()
    """Rules or tables that could not be analysed, and why: an overlap with them is unknown."""
    only: Optional[tuple[str, ...]] = None
    """The topics that alone were asked for, beside others' notrack rules; None: all rules."""

    def blind(self, *topics: str) -> Optional[str]:
        """Return why a guard that asks for ``topics`` cannot rule out an overlap with NAT."""
        here = self.only is None or set(topics) <= set(self.only)
        if self.asked and here and not self.unread:
            return None
        return f"NAT rules could not be read: {'; '.join(self.unread) or 'not asked for'}"


def service_topic(protocol: str, address: str, port: int) -> str:
    """Return what asks for the NAT rules of a service's requests and answers."""
    return f"{SERVICE_TOPIC}/{protocol}/{address}/{port}"


def _services(topics: Collection[str]) -> Iterator[Untracked]:
    """Yield the packets of services, as notrack rules would see them."""
    for topic in sorted(topics):
        kind, *named = topic.split("/")
        if kind == SERVICE_TOPIC:
            protocol, address, port = named
            here, ports = (address,), ((int(port), int(port)),)
            yield "prerouting", Match((protocol,), destinations=here, destination_ports=ports)
            yield "output", Match((protocol,), sources=here, source_ports=ports)


def read(asking: Asking) -> Nat:
    """Read the fact; ends at ``asking``'s deadline. Raises Unreadable without CAP_NET_ADMIN."""
    earlier, links = asking.earlier(Netfilter), asking.earlier(Links)
    notracks = [rule for rule in earlier.notracks if not rule.ours] if earlier is not None else []
    everything, udp = TOPIC in asking.topics, UDP_TOPIC in asking.topics
    untracked = [*((r.hook, r.match) for r in notracks), *_services(asking.topics)]
    if everything:
        rules, unread = of_packets(asking, NAT_ACTIONS, HOOKS, Match())
        return Nat(asked=True, rules=rules, unread=unread)
    if not udp and not untracked:
        return Nat(asked=False)

    own = tuple(a.address for a in links.addresses) if links is not None else ()
    found: list[PacketRule] = []
    gaps: list[str] = []
    for hooks, sought in (
        (("prerouting", "output"), beside(untracked, own)),
        (("input", "postrouting"), of_protocols(untracked)),
    ):
        if udp:
            sought = replace(sought, requests=(*sought.requests, _UDP))
        packets = Match() if untracked else _UDP
        rules, unread = of_packets(asking, NAT_ACTIONS, hooks, packets, sought)
        found += rules
        gaps += unread
    of_nat = (UDP_TOPIC, SERVICE_TOPIC)
    only = tuple(sorted(topic for topic in asking.topics if topic.startswith(of_nat)))
    return Nat(asked=True, rules=tuple(found), unread=tuple(dict.fromkeys(gaps)), only=only)


def of_packets(
    asking: Asking,
    actions: tuple[NatAction, ...],
    hooks: Collection[str],
    packets: Match,
    sought: Optional[Sought] = None,
) -> tuple[tuple[PacketRule, ...], tuple[str, ...]]:
    """Return the NAT rules that these packets can reach at ``hooks``, and what was not read.

    ``sought``: these of them alone. Raises Unreadable without CAP_NET_ADMIN.
    """
    stores, unread = open_stores(asking.deadline(), sought)
    rules: list[PacketRule] = []
    for store in stores:
        for base in store.bases():
            if base.type != "nat" or base.hook not in hooks or not base.rules:
                continue
            gaps: tuple[str, ...] = ()
            try:
                if sought is None:
                    rules.extend(collect(store, base, actions, only=packets))
                else:
                    found, gaps = asked_for(store, base, actions, packets, sought)
                    rules.extend(found)
            except Unreadable as error:
                gaps = (str(error),)
            place = base.place
            unread += (f"{place}: {gap}" for gap in gaps)
    return tuple(rules), tuple(unread)
