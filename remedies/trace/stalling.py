"""Which rule drops, or answers with a reset, a segment of a connection that conntrack knows.

conntrack calls such a segment INVALID. The judgement is :mod:`remedies.facts.dropped`'s, by which
``scan`` judges, too; that the connection stands still for it is heard only there.
"""

from __future__ import annotations

import time
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Asking
from remedies.facts.dropped import REJECTED, rules_of
from remedies.facts.host import read_host
from remedies.facts.links import read as read_links
from remedies.facts.netfilter import open_stores
from remedies.facts.stalls import Stall
from remedies.netlink.flow import Flow, Tuple
from remedies.netlink.links import Links
from remedies.rules.rule import PacketRule
from remedies.tap.lookups import Questions
from remedies.tap.streams import DATA
from remedies.tap.tally import TallyEntry
from remedies.trace.event import DropEvent

_MOST = 64
"""Connections whose way through the rules is looked at."""
_SHARE = 20
"""Between two looks pass so many times as long as one took: a long ruleset must not deafen us."""


class StallingRules:
    """Reads the rules when a segment is dropped or rejected; bounded in number and in time."""

    def __init__(self, questions: Questions) -> None:
        """Read nothing yet."""
        self._questions = questions
        self._looks = 0
        self._next = float("-inf")
        self.unread: dict[str, None] = {}

    def of_drop(self, drop: DropEvent) -> Optional[PacketRule]:
        """Return the rule that drops a segment as INVALID; None where that is not the cause."""
        dropped = drop.reason == "NETFILTER_DROP" and drop.protocol == "tcp" and not drop.namespace
        if not dropped or drop.way is None or drop.conntrack or "SYN" in drop.flags:
            return None
        flow = self._questions.flow("tcp", drop.way)
        if flow is None or not flow.seen_reply:
            return None
        return self._look(drop.way, DATA, flow, drop.link)

    def of_reset(self, entry: TallyEntry) -> Optional[PacketRule]:
        """Return the rule whose reset this is, sent for a segment that is only INVALID."""
        flow, heard = entry.flow, entry.heard
        if flow is None or flow.nat or not flow.seen_reply:
            return None
        if heard.acknowledges or entry.answers is True:
            return None
        return self._look(heard.way.reversed, REJECTED, flow, "")

    def _look(self, way: Tuple, kind: str, flow: Flow, link: str) -> Optional[PacketRule]:
        begin = time.monotonic()
        if self._looks >= _MOST or begin < self._next:
            return None
        self._looks += 1
        try:
            links: Links = read_links(Asking(read_host()))
            index = next((item.index for item in links.links if item.name == link), None)
            stores, unread = open_stores(begin + 1.0)
            self.unread.update(dict.fromkeys(unread))
            taking = rules_of(stores, Stall(way, kind, 1, flow=flow, link=index), links)
            return next((each.rule for each in taking if not each.doubts), None)
        except OSError as error:
            self.unread[f"route to {way.destination}: {error.strerror}"] = None
        except Unreadable as error:
            self.unread[str(error)] = None
        finally:
            now = time.monotonic()
            self._next = now + _SHARE * (now - begin)
        return None
