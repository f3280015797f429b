"""Every NAT rule with the packets it matches, read only where somebody asks about notrack."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Optional

from remedies.errors import Unreadable
from remedies.facts.netfilter import Netfilter, open_stores
from remedies.netfilter.walk import collect
from remedies.rules.rule import NAT_ACTIONS, Match, NatAction, PacketRule
from remedies.values import dataclass

if TYPE_CHECKING:
    from remedies.facts import Asking

AFTER = ("netfilter",)
TOPIC = "nat-rules"
HOOKS = ("prerouting", "input", "output", "postrouting")
"""Where chains of the type nat can stand."""


@dataclass(frozen=True)
class Nat:
    """NAT rules of nft, iptables-nft and iptables-legacy.

    Read when ``netfilter`` saw a foreign notrack rule or the topic ``nat-rules`` is asked for;
    otherwise ``asked`` is False and ``rules`` says nothing.
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
    foreign = earlier is not None and any(not rule.ours for rule in earlier.notracks)
    if TOPIC not in asking.topics and not foreign:
        return Nat(asked=False)

    rules, unread = of_packets(asking, NAT_ACTIONS, HOOKS, Match())
    return Nat(asked=True, rules=rules, unread=unread)


def of_packets(
    asking: Asking, actions: tuple[NatAction, ...], hooks: Collection[str], packets: Match
) -> tuple[tuple[PacketRule, ...], tuple[str, ...]]:
    """Return the NAT rules that these packets can reach at ``hooks``, and what was not read.

    Raises Unreadable without CAP_NET_ADMIN.
    """
    stores, unread = open_stores(asking.deadline())
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
