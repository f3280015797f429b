"""Which rule of the firewall dropped a packet, or answered a segment with a reset.

A drop's own packet is led through the chains of now, with what conntrack holds of it; nothing is
said where a condition before the rule cannot be judged. A segment that is INVALID although
conntrack knows its connection is judged as :mod:`remedies.facts.dropped` does for ``scan``; that
the connection stands still for it is heard only there.
"""

from __future__ import annotations

import time
from typing import Optional

from remedies.facts import Asking
from remedies.facts.dropped import REJECTED, rules_of
from remedies.facts.droppers import ruled
from remedies.facts.drops import SeenDrop
from remedies.facts.host import read_host
from remedies.facts.links import read as read_links
from remedies.facts.netfilter import open_stores
from remedies.facts.stalls import Stall
from remedies.netfilter.stores import Legacy, RuleStore
from remedies.netlink.flow import Flow, Tuple
from remedies.rules.rule import PacketRule
from remedies.tap.lookups import Questions
from remedies.tap.streams import DATA, PASSING
from remedies.tap.tally import TallyEntry
from remedies.trace.event import DropEvent
from remedies.trace.looks import Looks

_PATIENCE = 1.0
"""Seconds that one reading of the rules may take."""


class FirewallRules:
    """Reads the rules when a segment is dropped or rejected; bounded in number and in time."""

    def __init__(self, questions: Questions) -> None:
        """Read nothing yet."""
        self._questions = questions
        self._looks = Looks()
        self.unread = self._looks.unread

    def of_drop(self, drop: DropEvent, *, legacy: bool = False) -> Optional[PacketRule]:
        """Return the rule that surely dropped a packet of this namespace; None for none such.

        ``legacy``: no rule of nftables did it, so that those of iptables-legacy are left.
        """
        seen = drop.seen
        if drop.reason != "NETFILTER_DROP" or drop.namespace or seen is None:
            return None
        way, ordinary = seen.way, drop.protocol != "tcp" or drop.conntrack or "SYN" in drop.flags
        if legacy:
            return self._looks.take(
                f"rules for {way.destination}", lambda: self._dropping(seen, legacy=True)
            )
        flow = None if ordinary else self._questions.flow("tcp", way)
        if flow is None:
            return self._looks.take(f"rules for {way.destination}", lambda: self._dropping(seen))
        if flow.seen_reply:
            return self._looks.take(
                f"rules for {way.destination}", lambda: self._taking(way, DATA, flow, drop.link)
            )
        return self._looks.take(
            f"rules for {way.destination}",
            lambda: self._taking(way, PASSING, flow, drop.link) or self._dropping(seen),
        )

    def of_reset(self, entry: TallyEntry) -> Optional[PacketRule]:
        """Return the rule whose reset this is, sent for a segment that is only INVALID."""
        flow, heard = entry.flow, entry.heard
        if flow is None or flow.nat or not flow.seen_reply:
            return None
        if heard.acknowledges or entry.answers is True:
            return None
        way = heard.way.reversed
        return self._looks.take(
            f"rules for {way.destination}", lambda: self._taking(way, REJECTED, flow, "")
        )

    def _taking(self, way: Tuple, kind: str, flow: Flow, link: str) -> Optional[PacketRule]:
        links = read_links(Asking(read_host()))
        stall = Stall(way, kind, 1, flow=flow, link=links.index(link))
        taking = rules_of(self._stores(), stall, links)
        return next((each.rule for each in taking if not each.doubts), None)

    def _dropping(self, seen: SeenDrop, *, legacy: bool = False) -> Optional[PacketRule]:
        asking = Asking(read_host(), timeout=_PATIENCE)
        stores = [each for each in self._stores() if isinstance(each, Legacy) or not legacy]
        return ruled(asking, stores, read_links(asking), seen)[0]

    def _stores(self) -> list[RuleStore]:
        stores, unread = open_stores(time.monotonic() + _PATIENCE)
        self.unread.update(dict.fromkeys(unread))
        return stores
