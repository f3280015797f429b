"""Every NAT rule with the packets it matches, read only where somebody asks about notrack."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Optional

from remedies.errors import Unreadable
from remedies.facts.netfilter import Netfilter, open_stores
from remedies.netfilter.walk import collect
from remedies.rules.invalid_packet import EPHEMERAL
from remedies.rules.matching import ports_meet
from remedies.rules.rule import NAT_ACTIONS, Match, NatAction, PacketRule
from remedies.values import dataclass

if TYPE_CHECKING:
    from remedies.facts import Asking

AFTER = ("netfilter",)
TOPIC = "nat-rules"
UDP_TOPIC = "udp-nat-rules"
_UDP = Match(protocols=("udp",))
HOOKS = ("prerouting", "input", "output", "postrouting")
"""Where chains of the type nat can stand."""


@dataclass(frozen=True)
class Nat:
    """NAT rules of nft, iptables-nft and iptables-legacy.

    Read when ``netfilter`` saw a foreign notrack rule or the topic ``nat-rules`` is asked for, or
    ``udp-nat-rules``, which is those that UDP can meet; otherwise ``asked`` is False and ``rules``
    says nothing. Without ``nat-rules``, what neither UDP nor a foreign notrack rule can be about is
    left out of maps of thousands of services.
    """

    asked: bool
    rules: tuple[PacketRule, ...] = ()
    unread: tuple[str, ...] = ()
    """Rules or tables that could not be analysed, and why: an overlap with them is unknown."""

    @property
    def blind(self) -> Optional[str]:
        """Return why a guard cannot rule out an overlap with NAT, None where it can."""
        if self.asked and not self.unread:
            return None
        return f"NAT rules could not be read: {'; '.join(self.unread) or 'not asked for'}"


def read(asking: Asking) -> Nat:
    """Read the fact; ends at ``asking``'s deadline. Raises Unreadable without CAP_NET_ADMIN."""
    earlier = asking.earlier(Netfilter)
    foreign = [rule for rule in earlier.notracks if not rule.ours] if earlier is not None else []
    everything, udp = TOPIC in asking.topics, UDP_TOPIC in asking.topics
    if not everything and not udp and not foreign:
        return Nat(asked=False)

    among = () if everything else _kept_from_nat(foreign) + ((_UDP,) if udp else ())
    packets = _UDP if among == (_UDP,) else Match()
    rules, unread = of_packets(asking, NAT_ACTIONS, HOOKS, packets, among)
    return Nat(asked=True, rules=rules, unread=unread)


def _kept_from_nat(notracks: Iterable[PacketRule]) -> tuple[Match, ...]:
    """Return the packets, by protocol and ports, of the NAT rules that these may overlap.

    Those that they see, and those whose replies they see: replies come to a client's port, where
    the NAT rule names no other.
    """
    found: dict[Match, None] = {}
    for rule in notracks:
        match = rule.match
        found[
            Match(
                protocols=match.protocols,
                source_ports=match.source_ports,
                destination_ports=match.destination_ports,
            )
        ] = None
        to = match.destination_ports
        if not to or any(ports_meet(ports, EPHEMERAL) for ports in to):
            found[Match(protocols=match.protocols)] = None
    return tuple(found)


def of_packets(
    asking: Asking,
    actions: tuple[NatAction, ...],
    hooks: Collection[str],
    packets: Match,
    among: tuple[Match, ...] = (),
) -> tuple[tuple[PacketRule, ...], tuple[str, ...]]:
    """Return the NAT rules that these packets can reach at ``hooks``, and what was not read.

    ``among``: in maps of thousands of verdicts, what these may meet is followed alone.
    Raises Unreadable without CAP_NET_ADMIN.
    """
    stores, unread = open_stores(asking.deadline(), among)
    rules: list[PacketRule] = []
    for store in stores:
        for base in store.bases():
            if base.type != "nat" or base.hook not in hooks or not base.rules:
                continue
            try:
                rules.extend(collect(store, base, actions, only=packets))
            except Unreadable as error:
                unread.append(f"{base.backend} {base.family} {base.table} {base.chain}: {error}")
    return tuple(rules), tuple(unread)
