"""What conditions say of what a trace saw: the same functions that ``scan`` asks, at the end.

A dropped packet alone may be a firewall that does what it is for. With its rule, its number and the
host's networks the condition can tell; and a full queue of a socket drops nothing that the drop
tap could name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Optional

from remedies.conditions import (
    accept_queue_overflow,
    docker_direct_routing_drop,
    forward_policy_drop,
    published_but_refused,
    udp_receive_buffer,
)
from remedies.errors import Unreadable
from remedies.facts import Asking, Facts, Watch, queues
from remedies.facts.droppers import Droppers, RuledDrop, beside, published_by
from remedies.facts.drops import Drops
from remedies.facts.host import read_host
from remedies.facts.links import read as read_links
from remedies.facts.netfilter import open_stores
from remedies.model import Finding
from remedies.rules.rule import PacketRule
from remedies.trace.event import DropEvent
from remedies.values import replace

_Detect = Callable[[Facts, Mapping[str, object]], tuple[Finding, ...]]
_RULED: tuple[_Detect, ...] = (
    docker_direct_routing_drop.detect,
    forward_policy_drop.detect,
    published_but_refused.detect,
)
_QUEUED: tuple[_Detect, ...] = (accept_queue_overflow.detect, udp_receive_buffer.detect)
_MOST = 8
_PATIENCE = 1.0


class Verdicts:
    """Takes the first reading of the queues; judges once, at the end."""

    def __init__(self) -> None:
        """Read nothing yet."""
        self.unread: dict[str, None] = {}
        self._begin = time.monotonic()
        self._queues: Optional[Watch[queues.Queues]] = None

    def begin(self) -> None:
        """Take the first reading; where that fails, :attr:`unread` says why."""
        self._begin = time.monotonic()
        try:
            self._queues = queues.watch(Asking(read_host(), window=_PATIENCE))
        except Unreadable as error:
            self.unread[str(error)] = None

    def judged(
        self, drops: Iterable[DropEvent], rules: Mapping[str, PacketRule]
    ) -> tuple[tuple[DropEvent, ...], tuple[Finding, ...]]:
        """Return the drops, with their conditions, and what is proven or active by what was seen.

        ``rules``: those that dropped packets here, by how they are named. Where a condition speaks
        of a rule, what it says to do replaces what would only let the packet by.
        """
        drops = tuple(drops)
        found: list[Finding] = []
        try:
            if self._queues is not None:
                found += self._found(_QUEUED, {"queues": self._queues.finish()})
            ruled = [drop for drop in drops if drop.rule in rules and not drop.namespace]
            if ruled:
                found += self._found(_RULED, self._ruled(ruled[:_MOST], rules))
        except (OSError, Unreadable) as error:
            self.unread[f"what conditions say of it: {error}"] = None
        return tuple(_of_finding(drop, rules.get(drop.rule), found) for drop in drops), tuple(found)

    def _found(self, conditions: Iterable[_Detect], known: dict[str, object]) -> list[Finding]:
        seconds = round(time.monotonic() - self._begin, 1)
        facts = Facts(read_host(), "", seconds, known)
        return [finding for detect in conditions for finding in detect(facts, {})]

    def _ruled(self, drops: list[DropEvent], rules: Mapping[str, PacketRule]) -> dict[str, object]:
        """Return the facts that conditions on dropped packets ask for."""
        asking = Asking(read_host(), timeout=_PATIENCE)
        links = read_links(asking)
        stores, unread = open_stores(time.monotonic() + _PATIENCE)
        self.unread.update(dict.fromkeys(unread))
        found = []
        for drop in drops:
            seen = drop.seen
            if seen is not None:
                rule = rules[drop.rule]
                other = beside(stores, links, seen, rule)
                found.append(RuledDrop(seen, rule, other, published_by(asking, links, seen)))
        return {
            "drops": Drops(tuple(each.drop for each in found), listened=_PATIENCE),
            "droppers": Droppers(tuple(found)),
            "links": links,
        }


def _of_finding(
    drop: DropEvent, rule: Optional[PacketRule], findings: Iterable[Finding]
) -> DropEvent:
    """Return a drop with the condition that speaks of the rule it met, if one does."""
    if rule is None or drop.condition:
        return drop
    for finding in findings:
        if any((each.source, each.value) == (rule.place, rule.text) for each in finding.evidence):
            return replace(drop, condition=finding.condition, fix="", look="")
    return drop
