"""What rules ask of a packet's mark, and whether others give it."""

from __future__ import annotations

from typing import Optional

import pytest
from builder import ANY, packet_rule

from remedies.rules import marks
from remedies.rules.decoded import Mark
from remedies.rules.marks import MarkTest, mark_test
from remedies.rules.rule import Match

BIT = MarkTest(0x2000, 0x2000, True)
NOT_ONE = MarkTest(0xFFFFFFFF, 1, False)


@pytest.mark.parametrize(
    ("test", "kept", "turned", "met"),
    [
        (BIT, ~0x2000, 0x2000, True),
        (BIT, 0, 0x2000, True),
        (BIT, 0, 0x1000, False),
        (BIT, ~0x1, 0x1, False),
        (BIT, ~0, 0x2000, True),  # xor
        (BIT, 0, None, True),
        (NOT_ONE, 0, 1, False),
        (NOT_ONE, 0, 2, True),
        (NOT_ONE, ~2, 2, True),
        (MarkTest(0xFF, 0x12, True), 0xF0, 0x02, True),
        (MarkTest(0xFF, 0x12, True), 0xF0, 0x03, False),
    ],
)
def test_what_a_rule_sets(test: MarkTest, kept: int, turned: Optional[int], met: bool) -> None:
    assert test.met_after(kept & 0xFFFFFFFF, turned) is met


def test_the_mark_that_a_rule_asks_for() -> None:
    names = (mark_test(0x2000, 0x2000, negate=False), "length")
    first = Match(unmodelled=(mark_test(0xFFFFFFFF, 1, negate=False),))
    other = Match(("tcp",), unmodelled=(mark_test(0xFF, 3, negate=False),))
    rule = packet_rule("postrouting", "masquerade", Match(unmodelled=names))
    assert marks.asked_of(rule) == (BIT,)
    another = Match(unmodelled=("length",))
    after = (first, other, ANY, another)
    assert marks.asked_of(packet_rule("postrouting", "masquerade", after=after)) == (NOT_ONE,)


@pytest.mark.parametrize(
    ("setters", "versions"),
    [
        ([("ip", (0, 0x2000))], {"ip"}),
        ([("ip", (0, 0x2000)), ("ip6", (0, 0x1))], {"ip"}),
        ([("ip", (0, 0x2000)), ("ip6", (0, None))], {"ip", "ip6"}),
        ([("", (0, 0x2000))], {"ip", "ip6"}),
        ([("ip", (0, 0x1))], set()),
        ([("ip", None)], set()),
        ([("ip", None), ("ip6", (0, 0x2000))], {"ip6"}),
        ([], set()),
    ],
)
def test_who_gives_it(setters: list[tuple[str, Mark]], versions: set[str]) -> None:
    assert marks.givers((BIT, NOT_ONE), setters) == versions
    assert marks.givers((NOT_ONE,), setters) == set()  # nobody has to give it
