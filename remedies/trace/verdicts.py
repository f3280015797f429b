"""What conditions say of what a trace saw: the same functions that ``scan`` asks, at the end.

A dropped packet alone may be a firewall that does what it is for. With its rule, its number and the
host's networks the condition can tell. What no rule dropped the kernel's counters explain, or the
networks; and a full queue, ports that are used up or a lost route drop nothing that the drop tap
could name.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Optional, Protocol

from remedies.conditions import (
    accept_queue_overflow,
    conntrack_pressure,
    docker_direct_routing_drop,
    forward_policy_drop,
    ipv6_ra_route_lost,
    local_port_exhaustion,
    mixed_backends,
    published_but_refused,
    ruleset_wiped,
    snat_port_exhaustion,
    stale_flow,
    subnet_overlap,
    udp_receive_buffer,
)
from remedies.errors import Unreadable
from remedies.facts import (
    Asking,
    Facts,
    Watch,
    counters,
    departed,
    name_of,
    netfilter,
    queues,
    wiped,
)
from remedies.facts.counters import Counters
from remedies.facts.drop_signs import evidence
from remedies.facts.droppers import BY_FIREWALL, Droppers, RuledDrop, beside, published_by
from remedies.facts.drops import Drops
from remedies.facts.gather import read_facts
from remedies.facts.host import read_host
from remedies.facts.links import read as read_links
from remedies.facts.netfilter import Netfilter, open_stores
from remedies.facts.routes import Routes
from remedies.facts.stale import Stale
from remedies.model import SEEN, Finding
from remedies.netlink.links import Links
from remedies.rules.rule import PacketRule
from remedies.trace.event import DropEvent
from remedies.values import replace


class _Judging(Protocol):
    """What is asked of a condition's module."""

    @property
    def NEEDS(self) -> tuple[type[Any], ...]:  # noqa: N802  # the module's constant
        """The facts that it looks at."""

    def detect(self, facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
        """Return what it finds."""


_RULED: tuple[_Judging, ...] = (
    docker_direct_routing_drop,
    forward_policy_drop,
    mixed_backends,
    published_but_refused,
)
_QUEUED: tuple[_Judging, ...] = (accept_queue_overflow, udp_receive_buffer)
_WITHOUT_DROPS: tuple[_Judging, ...] = (ipv6_ra_route_lost, local_port_exhaustion)
_FULL = "nf_conntrack.drop"
_NOTHING: Mapping[str, str] = {}
_MOST = 8
_PATIENCE = 1.0


class Verdicts:
    """Takes the first reading of the queues; judges once, at the end."""

    def __init__(self) -> None:
        """Read nothing yet."""
        self.unread: dict[str, None] = {}
        self._begin = time.monotonic()
        self._queues: Optional[Watch[queues.Queues]] = None
        self._counters: Optional[Watch[Counters]] = None
        self._refused = 0
        """Packets for which conntrack had no room or no free tuple, by its own counter."""
        self._wiped: Optional[Watch[wiped.Wiped]] = None
        self._departed: Optional[Watch[departed.Departed]] = None

    def begin(self) -> None:
        """Take the first reading; where that fails, :attr:`unread` says why."""
        self._begin = time.monotonic()
        asking = Asking(read_host(), window=_PATIENCE)
        self._counters = counters.watch(asking)
        try:
            self._queues = queues.watch(asking)
            known = read_facts(asking.host, (Links, Netfilter, Routes)).known
            of_networks = replace(asking, known=dict(known))
            self._wiped = wiped.watch(of_networks)
            self._departed = departed.watch(of_networks)
        except Unreadable as error:
            self.unread[str(error)] = None

    def filenos(self) -> tuple[int, ...]:
        """Return the descriptors on which packets arrive that NAT did not turn, or did in vain."""
        watches = (self._wiped, self._departed)
        found = (watch.fileno() for watch in watches if watch is not None)
        return tuple(fileno for fileno in found if fileno >= 0)

    def hear(self) -> None:
        """Take what has arrived."""
        for watch in (self._wiped, self._departed):
            if watch is not None:
                watch.hear()

    def close(self) -> None:
        """Stop hearing; safe to repeat."""
        for watch in (self._queues, self._counters, self._wiped, self._departed):
            if watch is not None:
                watch.close()

    def judged(
        self, drops: Iterable[DropEvent], rules: Mapping[str, PacketRule]
    ) -> tuple[tuple[DropEvent, ...], tuple[Finding, ...]]:
        """Return the drops, with their conditions, and what is proven or active by what was seen.

        ``rules``: those that dropped packets here, by how they are named. Where a condition speaks
        of a rule, what it says to do replaces what would only let the packet by.
        """
        drops = tuple(drops)
        found: list[Finding] = []
        here = [drop for drop in drops if not drop.namespace]
        try:
            if self._queues is not None:
                found += self._found(_QUEUED, {"queues": self._queues.finish()})
            if self._wiped is not None:
                found += self._found((ruleset_wiped,), {"wiped": self._wiped.finish()})
            if self._departed is not None:
                known = {"departed": self._departed.finish(), "stale": Stale()}
                found += self._found((stale_flow,), known)
            ruled = [drop for drop in here if drop.rule in rules]
            if ruled:
                found += self._found(_RULED, self._ruled(ruled[:_MOST], rules))
            plain = [d for d in here if not (d.rule or d.ordinary or d.condition)]
            found += self._unruled(plain)
        except (OSError, Unreadable) as error:
            self.unread[f"what conditions say of it: {error}"] = None
        seen = tuple(each for each in found if each.verdict in SEEN)
        return explained(drops, rules, seen, self._refused), seen

    def _unruled(self, drops: Iterable[DropEvent]) -> list[Finding]:
        """Return what explains packets that no rule dropped, and connections that never began."""
        counted = self._counters.finish() if self._counters is not None else Counters()
        self._refused = counted.delta(_FULL) or 0
        seen = tuple(drop.seen for drop in drops if drop.seen is not None)
        asked = list(_WITHOUT_DROPS)
        if any(drop.reason == BY_FIREWALL for drop in seen) and self._refused:
            # The counter counts both, and a table that is full is told by how full it is.
            asked += [conntrack_pressure, snat_port_exhaustion]
        if any(drop.reason == "NEIGH_FAILED" for drop in seen):
            asked.append(subnet_overlap)
        known: dict[str, object] = {
            "counters": counted,
            "drops": Drops(seen, listened=self._seconds()),
            "droppers": Droppers(),
        }
        needs = {kind for each in asked for kind in each.NEEDS if name_of(kind) not in known}
        facts = read_facts(read_host(), needs, before=known)
        return self._found(asked, facts.known, facts.unknown)

    def _seconds(self) -> float:
        return round(time.monotonic() - self._begin, 1)

    def _found(
        self,
        conditions: Iterable[_Judging],
        known: Mapping[str, object],
        unknown: Mapping[str, str] = _NOTHING,
    ) -> list[Finding]:
        """Return what conditions find; of one that cannot be asked :attr:`unread` says why."""
        facts = Facts(read_host(), "", self._seconds(), dict(known), dict(unknown))
        found: list[Finding] = []
        for condition in conditions:
            try:
                found += condition.detect(facts, {})
            except Unreadable as error:
                self.unread[f"what conditions say of it: {error}"] = None
        return found

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
        by_iptables = any(rules[drop.rule].backend.startswith("iptables") for drop in drops)
        return {
            "drops": Drops(tuple(each.drop for each in found), listened=_PATIENCE),
            "droppers": Droppers(tuple(found)),
            "links": links,
            "netfilter": netfilter.read(asking) if by_iptables else Netfilter(True, "none"),
        }


def explained(
    drops: Iterable[DropEvent],
    rules: Mapping[str, PacketRule],
    findings: Iterable[Finding],
    refused: int,
) -> tuple[DropEvent, ...]:
    """Return the drops, with the conditions that speak of them or of the rules they met. Pure.

    ``refused``: packets for which conntrack had no room, by its own counter. A full table explains
    the drops that no rule does only where that counter covers all of them: it tells none apart.
    """
    findings = tuple(findings)
    told = tuple(_of_finding(drop, rules.get(drop.rule), findings) for drop in drops)
    ours = {drop for drop in told if _is_of_conntrack(drop)}
    full = any(each.condition == conntrack_pressure.CONDITION for each in findings)
    if not full or sum(drop.count for drop in ours) > refused:
        return told
    return tuple(_by_full_table(drop) if drop in ours else drop for drop in told)


def _is_of_conntrack(drop: DropEvent) -> bool:
    """Tell whether conntrack may have dropped a packet itself: no entry of it, no rule known."""
    known = drop.rule or drop.conntrack or drop.invalid or drop.condition or drop.namespace
    return drop.sign == BY_FIREWALL and not known


def _of_finding(
    drop: DropEvent, rule: Optional[PacketRule], findings: Iterable[Finding]
) -> DropEvent:
    """Return a drop with the condition that speaks of it or of the rule it met, if one does."""
    if drop.condition or drop.namespace:
        return drop
    for finding in findings:
        if _speaks_of(finding, drop, rule):
            # Without a rule it is conntrack or NAT that answers a hook with "drop".
            by_none = rule is None and drop.sign == BY_FIREWALL
            means = "NAT drops it, no rule does" if by_none else drop.means
            return replace(drop, condition=finding.condition, means=means, fix="", look="")
    return drop


def _by_full_table(drop: DropEvent) -> DropEvent:
    return replace(
        drop,
        means="conntrack's table is full, no rule drops it",
        look="",
        fix="a larger table, or fewer flows: 'remedy plan' shows both as flow-advice",
        condition=conntrack_pressure.CONDITION,
    )


def _speaks_of(finding: Finding, drop: DropEvent, rule: Optional[PacketRule]) -> bool:
    """Tell whether a finding names a drop's rule; or the drop itself, where no rule did it."""
    named = [(each.source, each.key, each.value) for each in finding.evidence]
    if rule is not None:
        return any((source, text) == (rule.place, rule.text) for source, _, text in named)
    seen = drop.seen
    if seen is None:
        return False
    its = evidence(seen)
    return (its.source, its.key, its.value) in named
