"""Which rule of the firewall dropped the packets that were dropped while the window lasted.

Read only if the firewall dropped some. A packet is led through the chains of now, with what
conntrack held of it; no rule is named where a condition before it cannot be judged. One that was to
be forwarded, and that a DNAT rule leads to, is led as one that DNAT turned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from remedies.errors import Unreadable
from remedies.facts.drops import SeenDrop, of_reason
from remedies.facts.nat import of_packets
from remedies.facts.netfilter import open_stores
from remedies.facts.pairs import here
from remedies.netfilter.lost import dropper
from remedies.netfilter.ownership import POLICY
from remedies.netfilter.stores import RuleStore
from remedies.netfilter.walk import reachable
from remedies.netlink.flow import Tuple
from remedies.netlink.links import Links
from remedies.netlink.route import RTN_LOCAL, route_get
from remedies.netlink.socket import NETLINK_ROUTE, Netlink
from remedies.rules.matching import name_covers, packets_of
from remedies.rules.packet_words import PacketKnowledge
from remedies.rules.prefixes import contains, single
from remedies.rules.publishing import asked_port, leading_to
from remedies.rules.rule import Match, PacketRule
from remedies.values import dataclass, replace

if TYPE_CHECKING:
    from remedies.facts import Asking

AFTER = ("drops", "links")

BY_FIREWALL = "NETFILTER_DROP"
_MOST = 8
"""Drops whose rule is looked for: each reads whole chains."""
_NOTHING = PacketKnowledge()
_ANY_RULE = (b"",)
_HOOKS = {
    (False, True): ("prerouting", "input"),
    (False, False): ("prerouting", "forward", "postrouting"),
    (True, False): ("output", "postrouting"),
    (True, True): ("output", "postrouting", "prerouting", "input"),
}
"""The hooks that a packet passes: it was sent here, it ends here."""


@dataclass(frozen=True)
class RuledDrop:
    """Packets that the firewall dropped, and the rule that surely did it."""

    drop: SeenDrop
    rule: Optional[PacketRule] = None
    """None: it cannot be told."""
    beside: str = ""
    """Where a chain's policy drops: a rule there that accepts other packets that begin a connection
    from the same network, as a person finds it. Empty: there is none."""
    published: Optional[PacketRule] = None
    """The DNAT rule by which its sender may have asked for it: then ``rule`` drops all that is
    sent on by it from there. None: there is none."""


@dataclass(frozen=True)
class Droppers:
    """The drops by the firewall that were looked into, most packets first."""

    found: tuple[RuledDrop, ...] = ()
    unread: tuple[str, ...] = ()


def read(asking: Asking) -> Droppers:
    """Read the rules that dropped packets met. Raises Unreadable without permission."""
    links, by_firewall = asking.earlier(Links), of_reason(asking, BY_FIREWALL, _MOST)
    if not by_firewall:
        return Droppers()
    if links is None:
        raise Unreadable("links and addresses were not read")
    stores, unread = open_stores(asking.deadline())
    found = []
    for drop in by_firewall:
        try:
            rule, published = ruled(asking, stores, links, drop)
        except (OSError, Unreadable) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            unread.append(f"the rule that dropped a packet to {drop.way.destination}: {reason}")
            rule = published = None
        found.append(RuledDrop(drop, rule, beside(stores, links, drop, rule), published))
    return Droppers(tuple(found), tuple(dict.fromkeys(unread)))


def ruled(
    asking: Asking, stores: list[RuleStore], links: Links, drop: SeenDrop
) -> tuple[Optional[PacketRule], Optional[PacketRule]]:
    """Return the rule that surely dropped a packet, and the one that publishes what it was for.

    Raises OSError and Unreadable.
    """
    asked = (stores, links, drop.protocol, drop.way, drop.link, drop.state)
    published = published_by(asking, links, drop)
    if published is not None:
        rule = rule_of(*asked, PacketKnowledge(asked=asked_port(published, drop.way)))
        if rule is not None:
            return rule, published
    return rule_of(*asked, PacketKnowledge(icmp=drop.icmp)), None


def published_by(asking: Asking, links: Links, drop: SeenDrop) -> Optional[PacketRule]:
    """Return the rule that sends on to where a packet of others was dropped; None: there is none.

    Raises Unreadable.
    """
    local = links.local
    way, index = drop.way, links.index(drop.link)
    if drop.state != "new" or drop.protocol not in ("tcp", "udp") or index is None:
        return None
    if here(way.source, local) or here(way.destination, local):
        return None
    sender = Match(
        protocols=(drop.protocol,),
        sources=(single(way.source),),
        in_interfaces=(links.name(links.of_rules(index)),),
    )
    rules, _ = of_packets(asking, ("dnat",), ("prerouting",), sender)
    return leading_to(rules, drop.protocol, way.destination, way.destination_port, sender)


def beside(
    stores: list[RuleStore], links: Links, drop: SeenDrop, rule: Optional[PacketRule]
) -> str:
    """Return a rule that lets other packets of the same network by; see :class:`RuledDrop`.

    A chain that cannot be read may hold one, and says so.
    """
    if rule is None or rule.text != POLICY:
        return ""
    index = links.index(drop.link)
    link = drop.link if index is None else links.name(links.of_rules(index))
    try:
        for store in stores:
            for base in store.bases():
                if (base.backend, base.table, base.chain) == (rule.backend, rule.table, rule.chain):
                    for chain, raw in reachable(store, base, _ANY_RULE):
                        for step in store.decode(base.family, base.table, raw):
                            if step.verdict == "accept" and _begins(step.match, link, drop):
                                return store.text(base.family, base.table, chain, step)
    except Unreadable as error:
        return f"{rule.place}: {error}"
    return ""


def _begins(match: Match, link: str, drop: SeenDrop) -> bool:
    """Tell whether a rule names the network that a packet is from, and takes new connections."""
    named = any(name_covers(pattern, link) for pattern in match.in_interfaces if pattern != "*")
    named = named or any(contains(prefix, drop.way.source) for prefix in match.sources)
    return named and (not match.states or "new" in match.states)


def rule_of(
    stores: list[RuleStore],
    links: Links,
    protocol: str,
    way: Tuple,
    link: str,
    state: str,
    known: PacketKnowledge = _NOTHING,
) -> Optional[PacketRule]:
    """Return the rule that surely dropped a packet of this namespace; None for none such.

    ``link``: the interface that it was on; ``state``: as :attr:`SeenDrop.state`. Raises OSError
    where no route leads on, and Unreadable where a chain on its way cannot be read.
    """
    sent = here(way.source, links.local)
    index = links.index(link)
    arrives = None if sent or index is None else links.of_rules(index)
    with Netlink(NETLINK_ROUTE) as client:
        goes = route_get(client, way.destination, way.source, arrives)
    local = goes.kind == RTN_LOCAL
    packet = replace(
        packets_of(protocol, way),
        in_interfaces=() if arrives is None else (links.name(arrives),),
        out_interfaces=() if local and not sent else (links.name(goes.link),),
        destination_local=local,
        source_local=sent,
        states=(state.partition(",")[0] or "invalid",),
    )
    hooks = _HOOKS[sent, local][
        0 if known.asked is None else 1 :
    ]  # before DNAT it was another packet
    return dropper(stores, packet, "ip6" if ":" in way.source else "ip", hooks, known)
