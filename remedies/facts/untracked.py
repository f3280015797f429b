"""Packets that a notrack rule of somebody's takes from a NAT rule, and what became of them.

Only where two such rules have packets in common is anything listened to, and only to the protocols
and ports of those notrack rules. A packet socket hears what arrives before any rule, and what
leaves after NAT. On a host too busy to be heard whole, every second connection is heard, then every
fourth, and so on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Optional

from remedies.facts import Asking, Unwatched, Watch
from remedies.facts.nat import Nat
from remedies.facts.netfilter import Netfilter
from remedies.facts.ring_watch import SharedRingWatch
from remedies.facts.served import Served, ends_of
from remedies.netlink.flow import Tuple
from remedies.netlink.links import Links
from remedies.rules.matching import ports_except
from remedies.rules.rule import PacketRule
from remedies.rules.untracked import ENDS, HeardWay, Pair, ends, pairs, taken
from remedies.tap import segments
from remedies.tap.lookups import Questions
from remedies.tap.ring import Packet
from remedies.values import dataclass, field

AFTER = ("netfilter", "nat", "links", "served")

_BLOCKS = 8
_AT_ONCE = 4
_WAYS = 2048
_ASKED = 256
"""Ways about which conntrack is asked."""
_KEPT = 64
_PATIENCE = 0.2
"""Seconds after which a packet that got no answer counts as unanswered."""
_PROTOCOLS = {"tcp": 6, "udp": 17}
_NAMES = {6: "tcp", 17: "udp"}


@dataclass(frozen=True)
class PastNat:
    """One way of packets that surely meet both rules."""

    protocol: str
    way: Tuple
    end: str
    """A word of :mod:`remedies.rules.untracked`: what became of them."""
    link: str
    """Name of the link by which they came, or left if they were made here."""
    count: int
    notrack: PacketRule
    nat: PacketRule


@dataclass(frozen=True)
class Untracked:
    """What was heard; what failed comes first. At most 64 ways."""

    packets: tuple[PastNat, ...] = ()
    listened: float = 0.0
    """Seconds; 0: nobody listened."""
    unread: tuple[str, ...] = ()


@dataclass
class _HeardPackets:
    """What was heard of one direction."""

    first: float
    arrived: dict[int, int] = field(default_factory=dict)
    """Count by index of the link."""
    left: dict[int, int] = field(default_factory=dict)
    resets: int = 0

    @property
    def count(self) -> int:
        """Return how many packets there were, as each link of a bridge shows them."""
        return max((*self.arrived.values(), *self.left.values()), default=0)


class _PacketListener(SharedRingWatch):
    """What came and what left, by its way."""

    def __init__(self, found: list[Pair], links: Links) -> None:
        self._pairs, self._links = found, links
        self._ways: dict[tuple[int, bytes], _HeardPackets] = {}
        ways = _filter([notrack for notrack, _ in found])
        super().__init__(lambda share: segments.program(share, *ways), _BLOCKS, _AT_ONCE)

    def _take(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            content = packet.content
            way = segments.way_of(content)
            if way is None:
                continue
            v4 = content[0] >> 4 == 4
            protocol = content[9] if v4 else content[6]
            known = self._ways.get((protocol, way))
            if known is None:
                if len(self._ways) >= _WAYS:
                    continue
                known = self._ways[protocol, way] = _HeardPackets(packet.time)
            links = known.left if packet.outgoing else known.arrived
            links[packet.link] = links.get(packet.link, 0) + 1
            flags = (4 * (content[0] & 0xF) if v4 else 40) + 13
            if protocol == _PROTOCOLS["tcp"] and content[flags : flags + 1]:
                known.resets += bool(content[flags] & segments.RST)
        if self._begins_anew():
            self._ways.clear()

    def finish(self) -> Untracked:
        listened = self._rest()
        questions = Questions()
        try:
            packets = self._judged(questions)
        finally:
            questions.close()
        packets.sort(key=lambda each: ENDS.index(each.end))
        unread = tuple(questions.unread)
        return Untracked(tuple(packets[:_KEPT]), listened, unread)

    def _judged(self, questions: Questions) -> list[PastNat]:
        """Return what became of each way of packets that both rules of a pair surely see."""
        packets: list[PastNat] = []
        asked, now = 0, time.time()
        for (protocol, raw), way in self._ways.items():
            heard = self._heard(protocol, raw, way, now)
            of = taken(heard, self._pairs, self._links)
            if not of or asked == _ASKED or not questions.open:
                continue
            asked += 1
            flow = questions.flow(heard.protocol, heard.way)
            if flow is None and not questions.open:
                break  # it could not be asked: that is not "no flow"
            by_rule: dict[PacketRule, PastNat] = {}
            for end, (notrack, nat) in ends(heard, of, flow, self._links):
                link = heard.arrives or heard.leaves
                one = PastNat(heard.protocol, heard.way, end, link, way.count, notrack, nat)
                other = by_rule.setdefault(notrack, one)
                if ENDS.index(end) < ENDS.index(other.end):
                    by_rule[notrack] = one
            packets += by_rule.values()
        return packets

    def _heard(self, protocol: int, raw: bytes, way: _HeardPackets, now: float) -> HeardWay:
        back = self._ways.get((protocol, segments.reversed_way(raw)))
        return HeardWay(
            _NAMES[protocol],
            segments.spell(raw),
            # A VLAN's link is heard after its parent when it comes, and before it when it leaves.
            next((self._name(link) for link in reversed(way.arrived)), ""),
            next((self._name(link) for link in way.left), ""),
            answered=back is not None and back.count > back.resets,
            refused=back is not None and back.resets > 0,
            waited=way.count > 1 or now - way.first >= _PATIENCE,
        )

    def _name(self, index: int) -> str:
        return self._links.name(self._links.of_rules(index))

    def close(self) -> None:
        self._ring.close()


def _filter(notracks: list[PacketRule]) -> tuple[list[int], list[tuple[int, int]]]:
    """Return protocols and port ranges that hold all that notrack rules take; no range: any."""
    protocols: dict[int, None] = {}
    ports: list[tuple[int, int]] = []
    everywhere = False
    for rule in notracks:
        names = rule.match.protocols or tuple(_PROTOCOLS)
        protocols.update((_PROTOCOLS[n], None) for n in names if n in _PROTOCOLS)
        own = rule.match.destination_ports or rule.match.source_ports
        everywhere = everywhere or not own
        ports += own
    merged = ports_except(ports_except(ports))
    if everywhere or len(merged) > segments.MOST_RANGES:
        merged = ()
    return list(protocols), list(merged)


def watch(asking: Asking) -> Watch[Untracked]:
    """Begin to listen where two rules meet; with a window of 0 nobody listens.

    Raises Unreadable where a packet socket may not be made.
    """
    found = _pairs(asking) if asking.window > 0 else None
    if not found or not _filter([notrack for notrack, _ in found[0]])[0]:
        return Unwatched(Untracked())
    return _PacketListener(*found)


def _pairs(asking: Asking) -> Optional[tuple[list[Pair], Links]]:
    """Return the rules that meet; None where there are none or what they are is not known."""
    netfilter, nat = asking.earlier(Netfilter), asking.earlier(Nat)
    links = asking.earlier(Links)
    if netfilter is None or nat is None or links is None:
        return None
    served = asking.earlier(Served) or Served()
    # What sockets of this host take is not missed by NAT, and nobody has to listen to it.
    missed = (r for r in netfilter.notracks if not ends_of(r) or set(ends_of(r)) - set(served.ends))
    found = pairs(missed, nat.rules, links)
    return (found, links) if found else None
