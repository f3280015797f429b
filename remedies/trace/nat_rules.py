"""The NAT rules of now, read when a packet asks for them, but seldom: reading deafens the tap."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts.gather import read_facts
from remedies.facts.host import read_host
from remedies.facts.nat import TOPIC, Nat
from remedies.facts.netfilter import Netfilter
from remedies.facts.pairs import here
from remedies.netlink.flow import Flow, Tuple
from remedies.netlink.links import Links
from remedies.rules.matching import packets_of
from remedies.rules.overlap import both_see
from remedies.rules.publishing import gives, leading_to
from remedies.rules.rule import PacketRule
from remedies.tap.allowance import Allowance
from remedies.values import replace

_FRESH = 5.0
"""Seconds after which NAT rules are read again, when a packet asks for them."""
_SHARE = 20
"""And reading them takes one part in so many of a processor: a long ruleset must not deafen us."""
_TO = ("dnat", "redirect")
_FROM = ("snat", "masquerade")


class NatRules:
    """NAT rules, notrack rules and links, at most some seconds old."""

    def __init__(self) -> None:
        """Read nothing yet."""
        self.unread: dict[str, None] = {}
        self._read: tuple[Nat, Links] = (Nat(asked=False), Links())
        self._notracks: tuple[PacketRule, ...] = ()
        self._processor = Allowance(_SHARE)
        self._fresh_until = float("-inf")

    def turning(self, protocol: str, way: Tuple) -> Iterator[PacketRule]:
        """Yield the rules that may turn a request to another address: DNAT and REDIRECT."""
        hook = "output" if self.is_local(way.source) else "prerouting"
        yield from self._seeing(protocol, way, _TO, (hook,))

    def hiding(self, protocol: str, way: Tuple) -> Iterator[PacketRule]:
        """Yield the notrack rules of others that surely see a request that arrives."""
        _, links = self._now()
        for rule in self._notracks:
            if not rule.ours and rule.hook == "prerouting":
                packet = _packet(rule, protocol, way, here(way.destination, links.local))
                if both_see(packet, rule, links).answer == "yes":
                    yield rule

    def local(self) -> Collection[str]:
        """Return this host's addresses."""
        return self._now()[1].local

    def is_local(self, address: str) -> bool:
        """Tell whether an address is this host's."""
        return here(address, self.local())

    def of(self, flow: Flow) -> tuple[Optional[PacketRule], Optional[PacketRule]]:
        """Return the rules that may have given a flow its target, and its source; None: none.

        By what they match and where they send it; the rules may be younger than the flow.
        """
        way, reply = flow.original, flow.reply
        turned = giving = None
        if (reply.source, reply.source_port) != (way.destination, way.destination_port):
            new = reply.source, reply.source_port
            turned = next((r for r in self.turning(flow.protocol, way) if gives(r, new)), None)
        if (reply.destination, reply.destination_port) != (way.source, way.source_port):
            leaving = Tuple(way.source, way.source_port, reply.source, reply.source_port)
            found = self._seeing(flow.protocol, leaving, _FROM, ("postrouting", "input"))
            new = reply.destination, reply.destination_port
            giving = next((rule for rule in found if gives(rule, new)), None)
        return turned, giving

    def leading_to(self, protocol: str, address: str, port: int) -> Optional[PacketRule]:
        """Return the rule that sends requests to this address and port, by what it says."""
        return leading_to(self._now()[0].rules, protocol, address, port)

    def _seeing(
        self, protocol: str, way: Tuple, actions: Collection[str], hooks: Collection[str]
    ) -> Iterator[PacketRule]:
        nat, links = self._now()
        version = "ip6" if ":" in way.source else "ip"
        local = here(way.destination, links.local)
        for rule in nat.rules:
            if rule.hook not in hooks or rule.action not in actions or version not in rule.versions:
                continue
            packet = _packet(rule, protocol, way, local)
            if both_see(packet, rule, links).answer != "no":
                yield rule

    def _now(self) -> tuple[Nat, Links]:
        if not self._processor.left or time.monotonic() < self._fresh_until:
            return self._read
        self._fresh_until = time.monotonic() + _FRESH
        with self._processor.pay():
            facts = read_facts(read_host(), (Netfilter, Nat, Links), topics=frozenset((TOPIC,)))
            try:
                self._read = facts.get(Nat), facts.get(Links)
                self._notracks = facts.get(Netfilter).notracks
                unread = self._read[0].unread
            except Unreadable as error:
                unread = (str(error),)
            self.unread.update(dict.fromkeys(unread))
        return self._read


def _packet(rule: PacketRule, protocol: str, way: Tuple, local: bool) -> PacketRule:
    """Return a packet, by what it has in its headers, as if it were a rule beside ``rule``."""
    version = "ip6" if ":" in way.source else "ip"
    return PacketRule(
        backend="",
        family=version,
        table="",
        chain="",
        hook=rule.hook,
        action=rule.action,
        text="",
        match=replace(
            packets_of(protocol, way),
            destination_local=local if rule.hook in ("prerouting", "output") else None,
        ),
    )
