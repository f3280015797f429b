"""Packets that a NAT rule is for and that it never sees: why a program is asked that is not there.

"No process has that port open" is true and misleads where the port is a published one. Two things
keep a packet from its NAT rule: its flow is older than the rule (NAT is chosen when a flow begins),
or a notrack rule hides it from conntrack.
"""

from __future__ import annotations

from typing import Optional

from remedies.netlink.flow import Tuple
from remedies.printable import at
from remedies.rules.rule import PacketRule
from remedies.tap.lookups import Questions
from remedies.trace.nat_rules import NatRules
from remedies.values import NamedTuple


class MissedNat(NamedTuple):
    """The NAT rule that would send a packet on, and what keeps it from that."""

    protocol: str
    way: Tuple
    rule: PacketRule
    notrack: Optional[PacketRule] = None
    """None: its flow is older than the rule."""

    @property
    def condition(self) -> str:
        """Return the condition that such a packet is a sign of."""
        return "stale-flow" if self.notrack is None else "notrack-breaks-nat"

    @property
    def why(self) -> str:
        """Return what happens, as part of a sentence."""
        if self.notrack is not None:
            return (
                f"the NAT rule {self.rule.named} never sees it, because {self.notrack.named} keeps "
                "it from conntrack"
            )
        return (
            f"the NAT rule {self.rule.named} does not apply to it, because its flow is older than "
            "the rule, and NAT is chosen when a flow begins"
        )

    @property
    def fix(self) -> str:
        """Return what lets NAT see it."""
        if self.notrack is not None:
            end = at(self.way.destination, self.way.destination_port)
            return f"take {self.protocol} to {end} out of {self.notrack.named}"
        return (
            f"delete the flow: conntrack -D -p {self.protocol} --orig-src {self.way.source} "
            f"--orig-dst {self.way.destination} --sport {self.way.source_port} "
            f"--dport {self.way.destination_port}"
        )


def missed(questions: Questions, rules: NatRules, protocol: str, way: Tuple) -> Optional[MissedNat]:
    """Return the NAT rule that a request from elsewhere did not meet; None: there is none.

    ``way`` is the packet as it came to nobody here. Rules are read, at most as often as
    :class:`NatRules` reads them.
    """
    flow = questions.flow(protocol, way)
    if flow is not None and (flow.nat or flow.original != way):
        return None
    if rules.is_local(way.source):
        return None
    notrack = None
    if flow is None:
        notrack = next(rules.hiding(protocol, way), None)
        if notrack is None:
            return None
    rule = next(rules.turning(protocol, way), None)
    return None if rule is None else MissedNat(protocol, way, rule, notrack)
