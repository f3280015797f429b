"""A request for a published port that came to nobody: which NAT rule did not see it, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional, cast

import pytest
from builder import flow, packet_rule

from remedies.netlink.flow import Flow, Tuple
from remedies.rules.rule import PacketRule
from remedies.tap.lookups import Questions
from remedies.trace.missed_nat import MissedNat, missed
from remedies.trace.nat_rules import NatRules

WAY = Tuple("10.0.0.9", 5000, "10.0.0.1", 53)
PUBLISHED = packet_rule("prerouting", "dnat", text="udp dport 53 dnat to 172.17.0.2")
NOTRACK = packet_rule("prerouting", "notrack", text="udp dport 53 notrack", table="raw")
OLD = flow(*WAY.parts)
TURNED = flow(*WAY.parts, nat=True)
ANSWER = flow(*WAY.reversed.parts)


class World:
    """What conntrack holds and what the rules are, as both are asked."""

    def __init__(
        self,
        flow: Optional[Flow],
        turning: tuple[PacketRule, ...],
        hiding: tuple[PacketRule, ...] = (),
        local: tuple[str, ...] = (),
    ) -> None:
        self._flow, self._turning, self._hiding, self._local = flow, turning, hiding, local

    def flow(self, protocol: str, way: Tuple) -> Optional[Flow]:
        return self._flow

    def turning(self, protocol: str, way: Tuple) -> Iterator[PacketRule]:
        return iter(self._turning)

    def hiding(self, protocol: str, way: Tuple) -> Iterator[PacketRule]:
        return iter(self._hiding)

    def is_local(self, address: str) -> bool:
        return address in self._local


def asked(world: World) -> Optional[MissedNat]:
    return missed(cast(Questions, world), cast(NatRules, world), "udp", WAY)


@pytest.mark.parametrize(
    ("world", "condition", "why", "fix"),
    [
        (World(OLD, (PUBLISHED,)), "stale-flow", "older than the rule",
         "conntrack -D -p udp --orig-src 10.0.0.9 --orig-dst 10.0.0.1 --sport 5000 --dport 53"),
        (World(None, (PUBLISHED,), (NOTRACK,)), "notrack-breaks-nat", "'udp dport 53 notrack'",
         "take udp to 10.0.0.1:53 out of 'udp dport 53 notrack'"),
        (World(OLD, (PUBLISHED,), (NOTRACK,)), "stale-flow", "older than the rule", "conntrack -D"),
    ],
    ids=["its flow is older", "a notrack rule hides it", "a flow proves that nothing hides it"],
)  # fmt: skip
def test_the_rule_is_named_with_why_and_what_to_do(
    world: World, condition: str, why: str, fix: str
) -> None:
    found = asked(world)
    assert found is not None
    assert (found.condition, found.rule) == (condition, PUBLISHED)
    assert why in found.why
    assert PUBLISHED.named in found.why
    assert fix in found.fix


@pytest.mark.parametrize(
    "world",
    [
        World(OLD, ()),
        World(None, (PUBLISHED,)),
        World(None, (), (NOTRACK,)),
        World(TURNED, (PUBLISHED,)),
        World(ANSWER, (PUBLISHED,)),
        World(OLD, (PUBLISHED,), local=("10.0.0.9",)),
    ],
    ids=[
        "no rule publishes it", "no flow, and nothing hides it", "notrack, and no such rule",
        "NAT has turned it", "it is an answer", "this host sent it",
    ],
)  # fmt: skip
def test_what_no_rule_missed_is_none(world: World) -> None:
    assert asked(world) is None


def test_an_ipv6_end_is_written_with_brackets() -> None:
    way = Tuple("fd00::9", 5000, "fd00::1", 53)
    assert "udp to [fd00::1]:53 out of" in MissedNat("udp", way, PUBLISHED, NOTRACK).fix
