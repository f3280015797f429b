"""What DNAT turned: the rule that publishes it, the port asked, and what rules ask of it."""

from __future__ import annotations

from typing import Optional

import pytest

from remedies.netlink.flow import Tuple
from remedies.rules.packet_words import (
    NOT_TURNED,
    PacketKnowledge,
    beyond,
    icmp_test,
    port_test,
    state_test,
    status_test,
    xt_icmp_test,
)
from remedies.rules.publishing import asked_port, leading_to
from remedies.rules.rule import Match, PacketRule

WAY = Tuple("198.51.100.7", 40000, "172.17.0.2", 80)
DNAT = status_test(0x20, 0, negate=True)


def publishes(
    to: str, *ports: tuple[int, int], action: str = "dnat", **match: object
) -> PacketRule:
    return PacketRule(
        backend="nft",
        family="ip",
        table="nat",
        chain="c",
        hook="prerouting",
        action=action,
        text="",
        match=Match(destination_ports=ports, **match),  # type: ignore[arg-type]
        to=to,
    )


@pytest.mark.parametrize(
    ("word", "port", "left"),
    [
        (DNAT, 0, ()),
        (status_test(0x20, 0x20, negate=False), 0, ()),
        (status_test(0x20, 0, negate=False), 0, None),
        (status_test(0x20, 0x20, negate=True), 0, None),
        (status_test(0x30, 0, negate=True), 0, "itself"),
        (port_test([(8080, 8080)], negate=False), 8080, ()),
        (port_test([(1, 2), (8000, 8999)], negate=False), 8080, ()),
        (port_test([(8080, 8080)], negate=False), 80, None),
        (port_test([(8080, 8080)], negate=True), 8080, None),
        (port_test([(8080, 8080)], negate=False), 0, "itself"),
        (state_test(()), 0, ()),
        (state_test(("established", "related")), 0, ()),
        ("ctstate SNAT/DNAT", 0, "itself"),
        ("meta length", 0, "itself"),
    ],
)
def test_a_condition_on_dnat_is_judged_where_it_is_known(
    word: str, port: int, left: Optional[object]
) -> None:
    match = beyond(Match(protocols=("tcp",), unmodelled=(word,)), ("new",), PacketKnowledge(port))
    if left is None:
        assert match is None
    else:
        assert match == Match(protocols=("tcp",), unmodelled=(word,) if left else ())


def test_what_cannot_be_judged_stays_beside_what_is_met() -> None:
    match = beyond(Match(unmodelled=(DNAT, "limit")), ("new",), PacketKnowledge(80))
    assert match == Match(unmodelled=("limit",))


@pytest.mark.parametrize(
    ("word", "met"),
    [
        (icmp_test("type", [(3, 3)], negate=False), True),
        (icmp_test("type", [(8, 8), (0, 2)], negate=False), False),
        (icmp_test("type", [(8, 8)], negate=True), True),
        (icmp_test("code", [(4, 4)], negate=False), True),
        (icmp_test("code", [(0, 3)], negate=False), False),
        (xt_icmp_test(3, (4, 4), negate=False), True),
        (xt_icmp_test(3, (0, 255), negate=False), True),
        (xt_icmp_test(3, (0, 3), negate=False), False),
        (xt_icmp_test(8, (0, 255), negate=False), False),
        (xt_icmp_test(8, (0, 255), negate=True), True),
        (xt_icmp_test(255, (0, 255), negate=False), True),
        (DNAT, None),
    ],
)
def test_a_condition_on_icmp_is_judged_by_type_and_code(word: str, met: Optional[bool]) -> None:
    match = beyond(Match(unmodelled=(word,)), ("related",), PacketKnowledge(icmp=(3, 4)))
    assert match == {True: Match(), False: None, None: Match(unmodelled=(word,))}[met]


@pytest.mark.parametrize(
    ("word", "met"),
    [
        (DNAT, False),
        (status_test(0x20, 0, negate=False), True),
        (state_test(("established", "related")), False),
        (state_test(("established", "related"), negate=True), True),
        (state_test(("new",), negate=True), False),
        (port_test([(80, 80)], negate=False), None),
    ],
)
def test_what_dnat_did_not_turn_is_judged_as_well(word: str, met: Optional[bool]) -> None:
    match = beyond(Match(unmodelled=(word,)), ("new",), PacketKnowledge(NOT_TURNED))
    assert match == {True: Match(), False: None, None: Match(unmodelled=(word,))}[met]


def test_nothing_is_judged_where_nothing_is_known() -> None:
    match = Match(unmodelled=(DNAT, icmp_test("type", [(3, 3)], negate=False)))
    assert beyond(match, ("new",), PacketKnowledge()) == match


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        (publishes("172.17.0.2:80", (8080, 8080)), True),
        (publishes("172.17.0.2", (80, 90)), True),
        (publishes("172.17.0.2", (70, 80)), True),
        (publishes("172.17.0.2", (70, 79)), False),
        (publishes("172.17.0.2", (8080, 8080)), False),
        (publishes("172.17.0.2"), True),
        (publishes("172.17.0.2:81", (8080, 8080)), False),
        (publishes("172.17.0.3:80", (8080, 8080)), False),
        (publishes("", (8080, 8080)), False),
        (publishes("172.17.0.2:80", (8080, 8080), protocols=("udp",)), False),
        (publishes("172.17.0.2:80", (8080, 8080), sources=("192.0.2.0/24",)), False),
        (publishes("172.17.0.2:80", (8080, 8080), in_interfaces=("eth1",)), False),
        (publishes("172.17.0.2:80", (8080, 8080), action="snat"), False),
    ],
)
def test_a_rule_publishes_what_it_sends_on_for_this_sender(rule: PacketRule, found: bool) -> None:
    sender = Match(protocols=("tcp",), sources=("198.51.100.7/32",), in_interfaces=("eth0",))
    assert (leading_to([rule], "tcp", "172.17.0.2", 80, sender) is rule) == found


@pytest.mark.parametrize(
    ("rule", "port"),
    [
        (publishes("172.17.0.2:80", (8080, 8080)), 8080),
        (publishes("172.17.0.2", (80, 90)), 80),
        (publishes("172.17.0.2"), 80),
        (publishes("172.17.0.2:80", (8000, 8999)), 0),
        (publishes("172.17.0.2:80"), 0),
        (publishes("172.17.0.2:80", (8080, 8080), (9090, 9090)), 0),
        (publishes("172.17.0.2:80", (8080, 8080), (443, 443)), 0),
    ],
)
def test_the_port_that_was_asked_is_told_where_it_can_be(rule: PacketRule, port: int) -> None:
    assert asked_port(rule, WAY) == port
