"""Which unanswered flows a NAT rule of now would surely send elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from builder import packet_rule

from remedies.facts.routes import DefaultRoute, Routes
from remedies.facts.stale import stale
from remedies.netlink.flow import Flow, Tuple
from remedies.netlink.links import Address, Link, Links
from remedies.rules.rule import ONE_OF_ALL, Match, PacketRule
from remedies.values import replace

LINKS = Links(
    (
        Link(1, "lo", "", True, loopback=True),
        Link(2, "eth0", "", True),
        Link(3, "docker0", "bridge", True),
    ),
    (Address("10.21.17.99", 24, 2, "global"), Address("172.17.0.1", 16, 3, "global")),
)
OUT = Routes((DefaultRoute(4, ("eth0",), 254, 0, "10.21.17.1"),))
WAY = Tuple("10.21.17.1", 5062, "10.21.17.99", 5060)
PUBLISHED = packet_rule(
    "prerouting",
    "dnat",
    Match(protocols=("udp",), destinations=("10.21.17.99",), destination_ports=((5060, 5060),)),
    to="172.17.0.2:5060",
)


def flow(goes: str = "10.21.17.99", port: int = 5060, source: str = "10.21.17.1") -> Flow:
    """Return an unanswered flow that goes to an address and port."""
    way = replace(WAY, source=source)
    return Flow("udp", way, Tuple(goes, port, source, 5062), False, (goes, port) != WAY.parts[2:])


def judged(one: Flow, *rules: PacketRule, routes: Routes = OUT) -> list[str]:
    """Return the texts of the rules that the flow goes past."""
    return [each.rule.text for each in stale([one], rules, LINKS, routes) if each.rule]


def met(rule: PacketRule = PUBLISHED, **changes: Any) -> PacketRule:
    """Return a rule with another match."""
    return replace(rule, match=replace(rule.match, **changes))


def test_a_flow_that_a_rule_would_turn_is_stale() -> None:
    assert judged(flow(), PUBLISHED) == ["dnat"]


def test_a_flow_to_a_target_that_is_gone_is_stale() -> None:
    assert judged(flow("172.17.0.9"), PUBLISHED) == ["dnat"]
    assert judged(flow("172.17.0.2", 5061), PUBLISHED) == ["dnat"]


def test_a_flow_that_goes_where_a_rule_sends_it_is_not() -> None:
    assert judged(flow("172.17.0.2"), PUBLISHED) == []


def test_each_backend_of_a_service_counts() -> None:
    other = replace(met(unmodelled=("numgen random mod 2 == 1",)), to="172.17.0.9:5060")
    assert judged(flow("172.17.0.9"), other, PUBLISHED) == []


@pytest.mark.parametrize("to", ["", "172.17.0.2-172.17.0.9"])
def test_a_rule_that_does_not_say_where_may_send_it_there(to: str) -> None:
    assert judged(flow(), replace(PUBLISHED, to=to)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"protocols": ("tcp",)},
        {"destination_ports": ((5061, 5061),)},
        {"destinations": ("10.21.17.98",)},
        {"destination_local": False},
        {"sources": ("172.17.0.0/16",)},
        {"in_interfaces": ("docker0",)},
        {"not_in_interfaces": ("eth0",)},
        {"unmodelled": ("meta mark",)},
        {"unmodelled": ("numgen random mod 2 == 0",)},
    ],
)
def test_a_rule_that_does_not_surely_see_it_is_no_proof(changes: dict[str, Any]) -> None:
    assert judged(flow(), met(**changes)) == []


@pytest.mark.parametrize(
    "changes", [{"in_interfaces": ("eth0",)}, {"not_in_interfaces": ("docker0",)}]
)
def test_the_link_is_that_of_the_clients_network(changes: dict[str, Any]) -> None:
    assert judged(flow(), met(**changes)) == ["dnat"]
    assert judged(flow(source="172.17.0.5"), met(**changes)) == []


def test_a_client_from_far_away_comes_by_the_only_default_route() -> None:
    by_eth0 = met(in_interfaces=("eth0",))
    assert judged(flow(source="192.0.2.7"), by_eth0) == ["dnat"]
    assert judged(flow(source="192.0.2.7"), by_eth0, routes=Routes()) == []
    assert judged(flow(source="192.0.2.7"), by_eth0, routes=replace(OUT, policy_rules=1)) == []
    two = Routes((*OUT.defaults, DefaultRoute(4, ("wlan0",), 254, 0)))
    assert judged(flow(source="192.0.2.7"), by_eth0, routes=two) == []


def test_a_rule_behind_one_that_may_take_it_first_is_no_proof() -> None:
    assert judged(flow(), replace(PUBLISHED, after=(Match(sources=("10.21.17.0/24",)),))) == []
    assert judged(flow(), replace(PUBLISHED, after=(Match(protocols=("tcp",)),))) == ["dnat"]


def test_a_redirect_to_another_port_is_one_as_well() -> None:
    redirect = replace(PUBLISHED, action="redirect", to=":5353")
    assert judged(flow(), redirect) == ["dnat"]
    assert judged(flow(port=5353), redirect) == []
    assert judged(flow(), replace(redirect, to="")) == []


def test_rules_of_the_other_ip_version_do_not_count() -> None:
    assert judged(flow(), replace(PUBLISHED, family="ip6")) == []
    assert judged(flow(), replace(PUBLISHED, family="inet", version="ip6")) == []
    assert judged(flow(), replace(PUBLISHED, family="inet")) == ["dnat"]


def test_lots_that_all_lead_on_are_sure_together() -> None:
    assert judged(flow(), met(unmodelled=(ONE_OF_ALL,))) == ["dnat"]
    assert judged(flow(), met(unmodelled=(ONE_OF_ALL, "meta mark"))) == []


def found(one: Flow, *rules: PacketRule, **given: Any) -> list[tuple[str, str]]:
    """Return what is found of a flow: the rule's text, and why its target is gone."""
    return [
        (each.rule.text if each.rule else "", each.gone)
        for each in stale([one], rules, LINKS, OUT, **given)
    ]


GONE = {"172.17.0.9": "no neighbour answers"}
TURNED = flow("172.17.0.9")
"""A flow to a target that PUBLISHED does not give."""
LOTS = met(unmodelled=("statistic",))


def test_where_no_rule_sends_it_on_the_target_has_to_be_gone() -> None:
    assert found(TURNED) == []
    assert found(TURNED, gone=GONE) == [("", "no neighbour answers")]
    assert found(TURNED, gone=GONE, complete=False) == []
    assert found(flow("172.17.0.9"), met(sources=("192.0.2.0/24",)), gone=GONE) == [
        ("", "no neighbour answers")
    ]


def test_a_turned_flow_is_stale_whatever_lots_draw() -> None:
    assert found(TURNED, LOTS) == [("dnat", "")]
    assert found(TURNED, LOTS, complete=False) == []
    assert found(flow(), LOTS) == [], "it was never turned, and may not be today"


def test_an_answered_flow_counts_only_where_its_target_is_gone() -> None:
    answered = replace(TURNED, seen_reply=True)
    assert found(answered, PUBLISHED) == []
    assert found(answered, PUBLISHED, gone=GONE) == [("dnat", "no neighbour answers")]
    assert found(replace(flow("172.17.0.2"), seen_reply=True), PUBLISHED,
                 gone={"172.17.0.2": "x"}) == []  # fmt: skip


def test_tcp_is_judged_by_rules_for_tcp() -> None:
    syn = replace(TURNED, protocol="tcp")
    assert found(syn, PUBLISHED) == []
    assert found(syn, met(protocols=("tcp",))) == [("dnat", "")]
