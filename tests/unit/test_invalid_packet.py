"""What is known of an INVALID segment and of the reset that answers it."""

from __future__ import annotations

from typing import Optional

import pytest

from remedies.rules import header_words, invalid_packet, tcp_options
from remedies.rules.invalid_packet import flags_test, owner_test
from remedies.rules.marks import mark_test, marks_test
from remedies.rules.rule import Match
from remedies.rules.sometimes import sometimes
from remedies.values import replace

SYN, RST, ACK = invalid_packet.SYN, invalid_packet.RST, invalid_packet.ACK
PSH, URG = 0x08, 0x20
FIN = 0x01
KEPT, MET, FAILED = "kept", "met", "failed"


@pytest.mark.parametrize(
    ("condition", "segment", "reset"),
    [
        # A segment has ACK and is no SYN, no RST; of FIN and PSH nothing is known.
        (flags_test(SYN, SYN, negate=False), FAILED, FAILED),
        (flags_test(SYN, SYN, negate=True), MET, MET),
        (flags_test(SYN, 0, negate=False), MET, MET),
        (flags_test(ACK, ACK, negate=False), MET, FAILED),
        (flags_test(ACK, ACK, negate=True), FAILED, MET),
        (flags_test(RST, RST, negate=False), FAILED, MET),
        (flags_test(RST, RST, negate=True), MET, FAILED),
        (flags_test(FIN, FIN, negate=False), KEPT, FAILED),
        (flags_test(FIN, 0, negate=False), KEPT, MET),
        (flags_test(FIN | ACK, ACK, negate=False), KEPT, FAILED),
        (flags_test(FIN | SYN, SYN, negate=True), MET, MET),
        (flags_test(SYN, SYN | ACK, negate=False), FAILED, FAILED),  # no packet has it
        (flags_test(SYN, SYN | ACK, negate=True), MET, MET),
        (flags_test(SYN, ACK, negate=False), FAILED, FAILED),  # nor this
        (flags_test(SYN, ACK, negate=True), MET, MET),
        (mark_test(0xFF, 0, negate=False), MET, MET),
        (mark_test(0xFF, 1, negate=False), FAILED, FAILED),
        (mark_test(0xFF, 1, negate=True), MET, MET),
        (mark_test(0xFF, 0, negate=True), FAILED, FAILED),
        ("meta pkttype == 0", MET, MET),
        ("meta pkttype != 0", FAILED, FAILED),
        ("ct key 5 == 1", FAILED, FAILED),
        ("connmark", FAILED, FAILED),
        ("connbytes", FAILED, FAILED),
        ("connlimit", KEPT, KEPT),
        ("ctstatedir", FAILED, FAILED),
        ("helper ftp", FAILED, FAILED),
        ("meta skuid", FAILED, FAILED),
        ("socket", FAILED, FAILED),
        ("meta cpu == 0", KEPT, KEPT),
    ],
)
@pytest.mark.parametrize("of_reset", [False, True])
def test_a_condition_is_met_or_failed_or_stays_open(
    condition: str, segment: str, reset: str, of_reset: bool
) -> None:
    wanted = reset if of_reset else segment
    match = Match(protocols=("tcp",), unmodelled=("meta cpu != 7", condition))
    left: Optional[Match] = {
        KEPT: match,
        MET: replace(match, unmodelled=("meta cpu != 7",)),
        FAILED: None,
    }[wanted]
    assert invalid_packet.left_open(match, "forward", reset=of_reset) == left


@pytest.mark.parametrize(
    ("condition", "some"),
    [
        ("limit", True),
        ("connlimit", True),
        ("meta 31", True),
        (header_words.NEIGHBOUR, True),
        (header_words.of_tunnel(True), False),
        (flags_test(PSH | ACK, PSH | ACK, negate=False), True),
        (flags_test(0xFF, ACK, negate=False), True),
        (flags_test(PSH, 0, negate=True), True),
        (flags_test(URG, URG, negate=True), True),
        (flags_test(URG, 0, negate=True), False),
        (flags_test(0xFF, URG | PSH | ACK, negate=False), False),
    ],
)
def test_some_segments_surely_meet_a_condition(condition: str, *, some: bool) -> None:
    assert sometimes(condition, sent=False) is some


def test_what_is_in_a_reset_nobody_chooses_but_the_class_of_service() -> None:
    chosen = {name for name in header_words.CHOSEN if sometimes(name, sent=True)}
    assert chosen == {header_words.SERVICE, f"bits of {header_words.SERVICE}"}
    assert sometimes("limit", sent=True)


def test_what_begins_here_came_by_no_link() -> None:
    for name in header_words.LINK:
        match = Match(unmodelled=(name,))
        assert invalid_packet.left_open(match, "output", reset=True) is None
        assert invalid_packet.left_open(match, "input") == match


def test_conntrack_looks_no_further_than_the_state() -> None:
    with_state = Match(states=("invalid",), unmodelled=("conntrack",))
    assert invalid_packet.left_open(with_state, "input") == Match(states=("invalid",))
    without = Match(unmodelled=("conntrack",))
    assert invalid_packet.left_open(without, "input") is None


@pytest.mark.parametrize(
    ("mark", "mask", "value", "met"),
    [
        (0x10, 0xFF, 0x10, True),
        (0x10, 0x0F, 0, True),
        (0x10, 0xFF, 0, False),
        (None, 0xFF, 0x10, None),
    ],
)
def test_a_mark_that_rules_set_is_known(
    mark: Optional[int], mask: int, value: int, met: Optional[bool]
) -> None:
    for negate in (False, True):
        name = mark_test(mask, value, negate=negate)
        left = invalid_packet.left_open(Match(unmodelled=(name,)), "input", mark=mark)
        if met is None:
            assert left == Match(unmodelled=(name,))
        else:
            assert left == (None if met == negate else Match())


@pytest.mark.parametrize(
    ("asked", "own", "forwarded"),
    [
        ("uid", FAILED, FAILED), ("gid", FAILED, FAILED), ("! uid", MET, MET), ("! gid", MET, MET),
        ("socket", MET, FAILED), ("! socket", FAILED, MET), ("groups", MET, FAILED),
    ],
)  # fmt: skip
def test_a_reset_of_the_kernels_own_has_a_socket_that_no_program_holds(
    asked: str, own: str, forwarded: str
) -> None:
    match = Match(unmodelled=(owner_test(asked.lstrip("! "), negate=asked.startswith("!")),))
    either = own if own == forwarded else KEPT
    left = {MET: Match(), FAILED: None, KEPT: match}
    assert invalid_packet.left_open(match, "output", reset=True) == left[own]
    assert invalid_packet.left_open(match, "postrouting") == left[forwarded]
    assert invalid_packet.left_open(match, "postrouting", reset=True) == left[either]


@pytest.mark.parametrize(
    ("hook", "missing"),
    [("prerouting", "out"), ("input", "out"), ("output", "in"), ("forward", "")],
)
@pytest.mark.parametrize("side", ["in", "out"])
def test_a_packet_has_no_link_where_its_hook_knows_none(hook: str, missing: str, side: str) -> None:
    by_it = Match(**{f"{side}_interfaces": ("eth0",)})  # type: ignore[arg-type]
    by_others = Match(**{f"not_{side}_interfaces": ("eth0",)})  # type: ignore[arg-type]
    known = side != missing
    assert invalid_packet.left_open(by_it, hook) == (by_it if known else None)
    assert invalid_packet.left_open(by_others, hook) == (by_others if known else Match())


@pytest.mark.parametrize(
    ("name", "hook", "met"),
    [
        (invalid_packet.type_test("saddr", [1], negate=False), "input", True),
        (invalid_packet.type_test("saddr", [1], negate=True), "forward", False),
        (invalid_packet.type_test("saddr", [2, 3], negate=False), "output", True),
        (invalid_packet.type_test("daddr", [3, 5], negate=False), "prerouting", False),
        (invalid_packet.type_test("daddr", [1, 2], negate=False), "prerouting", True),
        (invalid_packet.type_test("daddr", [1], negate=False), "prerouting", None),
        (invalid_packet.type_test("daddr", [1], negate=False), "input", False),
        (invalid_packet.frame_test([1, 2], negate=False), "input", False),
        (invalid_packet.frame_test([0, 2], negate=False), "input", True),
        (marks_test(0xFF, [(0, 15)], negate=False), "input", True),
        (marks_test(0xFF, [(1, 15), (7, 7)], negate=True), "input", True),
        (flags_test(0xFF, ACK, ACK | PSH, negate=False), "input", None),
        (flags_test(0xFF, RST, SYN | ACK, negate=True), "input", True),
        ("fragments", "input", False),
        (tcp_options.option_test(2), "forward", False),
        (tcp_options.option_test(2, absent=True), "forward", True),
        (tcp_options.value_of(3), "input", False),
        (tcp_options.option_test(8), "forward", None),
        (invalid_packet.ROUTED, "prerouting", False),
        (invalid_packet.ROUTED, "forward", True),
        (invalid_packet.GROUPED["in"], "output", False),
        (invalid_packet.GROUPED["in"], "input", True),
        (invalid_packet.GROUPED["out"], "prerouting", False),
        (invalid_packet.GROUPED["out"], "input", False),
        (invalid_packet.GROUPED["out"], "forward", True),
        ("! bridged", "forward", True),
    ],
)
def test_what_is_known_of_a_segment(name: str, hook: str, met: Optional[bool]) -> None:
    match = Match(unmodelled=(name,))
    left = {True: Match(), False: None, None: match}[met]
    assert invalid_packet.left_open(match, hook) == left


@pytest.mark.parametrize("kind", [1, 2, 5, 8, 30])
def test_a_reset_of_the_kernels_own_has_no_option(kind: int) -> None:
    for name, met in (
        (tcp_options.option_test(kind), False),
        (tcp_options.option_test(kind, absent=True), True),
        (tcp_options.value_of(kind), False),
    ):
        left = invalid_packet.left_open(Match(unmodelled=(name,)), "output", reset=True)
        assert left == (Match() if met else None)


@pytest.mark.parametrize(
    ("name", "some"),
    [
        (tcp_options.option_test(1), True),
        (tcp_options.option_test(8), True),
        (tcp_options.option_test(8, absent=True), True),
        (tcp_options.option_test(30), False),
        (tcp_options.value_of(8), False),
    ],
)
def test_some_segments_have_an_option_and_others_have_it_not(name: str, some: bool) -> None:
    assert sometimes(name, sent=False) is some
    assert not sometimes(name, sent=True)
