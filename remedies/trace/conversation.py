"""One conversation in conntrack, step by step: a request came, NAT turned it, it was answered."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from typing import Optional

from remedies.errors import Unreadable
from remedies.netlink.conntrack import TupleMatch, flows, not_permitted
from remedies.netlink.conntrack_entry import flow_of
from remedies.netlink.flow import Flow, Tuple
from remedies.netlink.socket import NETLINK_NETFILTER, Netlink
from remedies.printable import at, both_ends
from remedies.rules.publishing import leading_to
from remedies.rules.rule import PacketRule
from remedies.tap.allowance import Allowance
from remedies.trace.event import ConversationStep
from remedies.trace.nat_rules import NatRules
from remedies.trace.packet_filter import PacketFilter
from remedies.values import replace

_PATIENCE = 1.0
_SHARE = 20
"""Looks that are not due take one part in so many of a processor: each walks the table, and a
flood of packets must not cause a walk for each."""
_MOST = 256
"""Flows that one look takes, and that are remembered."""


class Conversation:
    """The flows that a filter asks for, and what became of each."""

    def __init__(self, wanted: PacketFilter, rules: NatRules) -> None:
        """Begin with none; flows that are there already are told at the first look."""
        self.wanted = wanted
        self.unread: dict[str, None] = {}
        self.flows: dict[tuple[str, Tuple], Flow] = {}
        self._rules = rules
        self._processor = Allowance(_SHARE)
        self._sent_on: dict[tuple[str, Tuple], bool] = {}
        """Requests without a flow since the last look, and whether a rule turns what is wanted so.
        """

    def takes(self, protocol: str, way: Optional[Tuple]) -> bool:
        """Tell whether a packet belongs to it: by itself, or as NAT turned it.

        A request that is dropped after NAT has turned it leaves no flow: the rules tell then.
        """
        if self.wanted.takes(protocol, way):
            return True
        return way is not None and (
            any(
                name == protocol and way in (flow.reply, flow.reply.reversed, flow.original)
                for (name, _), flow in self.flows.items()
            )
            or self._is_sent_on(protocol, way)
        )

    def _is_sent_on(self, protocol: str, way: Tuple) -> bool:
        """Tell whether a DNAT rule may have made a packet of one that is wanted."""
        wanted, key = self.wanted, (protocol, replace(way, source_port=0))
        sender = replace(wanted, destination="", destination_port=None)
        if not wanted.destination or not sender.is_request(way):
            return False
        if wanted.protocol not in ("", protocol):
            return False
        if key not in self._sent_on and len(self._sent_on) < _MOST:
            asked = Tuple(way.source, 0, wanted.destination, wanted.destination_port or 0)
            rules = self._rules.turning(protocol, asked)
            rule = leading_to(rules, protocol, way.destination, way.destination_port)
            self._sent_on[key] = rule is not None
        return self._sent_on.get(key, False)

    def early_steps(self) -> Iterator[ConversationStep]:
        """Yield what is new before the next look is due, unless looks take too much of the time."""
        if self._processor.left:
            yield from self.steps()

    def steps(self) -> Iterator[ConversationStep]:
        """Yield what is new since the last look."""
        now = time.time()
        with self._processor.pay():
            found = self._now()
        self._sent_on.clear()
        for flow in found:
            key = flow.protocol, flow.original
            before = self.flows.get(key)
            if before is None and len(self.flows) >= _MOST:
                continue
            self.flows[key] = flow
            if before is None or before.reply != flow.reply:
                yield from self._begun(flow, now)
            if flow.seen_reply and not (before and before.seen_reply):
                by = at(flow.reply.source, flow.reply.source_port)
                yield ConversationStep(
                    now, "answered", f"{_named(flow)}: an answer came from {by}", flow
                )

    def _begun(self, flow: Flow, now: float) -> Iterator[ConversationStep]:
        yield ConversationStep(now, "request", f"{_named(flow)}: conntrack has a flow of it", flow)
        turned, giving = self._rules.of(flow)
        way, back = flow.original, flow.reply
        if (back.source, back.source_port) != (way.destination, way.destination_port):
            text = f"NAT sends it to {at(back.source, back.source_port)}{_by(turned)}"
            yield ConversationStep(now, "turned", text, flow, turned)
        if (back.destination, back.destination_port) != (way.source, way.source_port):
            mine = at(back.destination, back.destination_port)
            yield ConversationStep(
                now, "source", f"NAT gives it the source {mine}{_by(giving)}", flow, giving
            )

    def _now(self) -> list[Flow]:
        """Return the flows of now; none where conntrack is not there: asking would load it."""
        if not os.path.exists("/proc/sys/net/netfilter/nf_conntrack_count"):
            self.unread["conntrack is not in use here"] = None
            return []
        wanted = self.wanted
        match = TupleMatch(
            wanted.source or None,
            wanted.source_port,
            wanted.destination or None,
            wanted.destination_port,
        )
        found: list[Flow] = []
        try:
            for protocol in ("tcp", "udp"):
                if wanted.protocol in ("", protocol):
                    with Netlink(NETLINK_NETFILTER, time.monotonic() + _PATIENCE) as client:
                        entries = itertools.islice(flows(client, protocol, match), _MOST)
                        found += [flow_of(entry) for entry in entries]
        except OSError as error:
            self.unread[str(not_permitted(error))] = None
        except Unreadable as error:
            self.unread[str(error)] = None
        return found


def _named(flow: Flow) -> str:
    return f"{flow.protocol} {both_ends(*flow.original.parts)}"


def _by(rule: Optional[PacketRule]) -> str:
    return f" (rule '{rule.text}', {rule.place})" if rule else " (no current rule does that)"
