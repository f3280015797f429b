"""A rule's conditions, gathered one by one: each call narrows the match, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import pytest

from remedies.rules.decoded import ALTERNATIVES, MatchTerms, Step, protocol_name, states_of
from remedies.rules.rule import Match

TCP, UDP = ("tcp",), ("udp",)
Add = Callable[[MatchTerms], object]


@pytest.mark.parametrize(
    ("add", "match"),
    [
        (lambda t: t.unknown("quota"), {"unmodelled": ("quota",)}),
        (lambda t: t.family("ip"), {"sources": ("0.0.0.0/0",)}),
        (lambda t: t.family("ip6"), {"sources": ("::/0",)}),
        (lambda t: t.protocol([6]), {"protocols": TCP}),
        (lambda t: t.protocol([6, 254]), {"protocols": ("tcp", "254")}),
        (lambda t: t.protocol([1], negate=True), {"unmodelled": ("! icmp",)}),
        (
            lambda t: t.protocol([6], negate=True),
            {"protocols": ("icmp", "igmp", "udp", "dccp", "gre", "esp", "ah", "icmpv6", "sctp",
                           "udplite")},
        ),
        (lambda t: t.addresses("source", ["10.0.0.0/8"]), {"sources": ("10.0.0.0/8",)}),
        (lambda t: t.addresses("source", ["10.0.0.0/8"], negate=True),
         {"not_sources": ("10.0.0.0/8",)}),
        (lambda t: t.addresses("destination", ["::1"]), {"destinations": ("::1",)}),
        (lambda t: t.addresses("destination", ["::1"], negate=True),
         {"not_destinations": ("::1",)}),
        (lambda t: t.spans("source", "ip", [(0x0A000000, 0x0A0000FF)]),
         {"sources": ("10.0.0.0/24",)}),
        (lambda t: t.spans("destination", "ip", [(0x0A000001, 0x0A000002)], negate=True),
         {"not_destinations": ("10.0.0.1", "10.0.0.2")}),
        (lambda t: t.ports("source", [(53, 53)]), {"source_ports": ((53, 53),)}),
        (lambda t: t.ports("destination", [(53, 53)]), {"destination_ports": ((53, 53),)}),
        (lambda t: t.ports("destination", [(53, 53)], negate=True),
         {"destination_ports": ((0, 52), (54, 65535))}),
        (lambda t: t.ports("source", [(0, 65535)]), {}),
        (lambda t: t.ports("source", [(0, 65535)], negate=True), None),
        (lambda t: t.interfaces("in", ["eth0"]), {"in_interfaces": ("eth0",)}),
        (lambda t: t.interfaces("in", ["eth0"], negate=True), {"not_in_interfaces": ("eth0",)}),
        (lambda t: t.interfaces("out", ["br-*"]), {"out_interfaces": ("br-*",)}),
        (lambda t: t.interfaces("out", ["br-*"], negate=True), {"not_out_interfaces": ("br-*",)}),
        (lambda t: t.states(["invalid"]), {"states": ("invalid",)}),
        (lambda t: t.states(["invalid", "new"], negate=True),
         {"states": ("established", "related", "untracked")}),
        (lambda t: t.states([]), None),
        (lambda t: t.local("destination", True), {"destination_local": True}),
        (lambda t: t.local("destination", False), {"destination_local": False}),
        (lambda t: t.local("source", True), {"source_local": True}),
    ],
)  # fmt: skip
def test_a_condition_narrows_the_match(add: Add, match: Optional[dict[str, Any]]) -> None:
    terms = MatchTerms()
    add(terms)
    assert terms.match == (None if match is None else Match(**match))
    assert terms.steps(Step(Match(), "drop")) == (
        () if match is None else (Step(Match(**match), "drop"),)
    )


def test_conditions_that_no_packet_meets_make_no_step() -> None:
    terms = MatchTerms()
    terms.protocol([6])
    terms.protocol([17])
    terms.protocol([6])
    assert terms.match is None
    assert terms.steps(Step(Match())) == ()


def test_a_copy_is_narrowed_apart() -> None:
    terms = MatchTerms()
    terms.protocol([6])
    terms.note(["-m", "set"])
    terms.any_of([Match(sources=("10.0.0.1",))], "set")
    other = terms.copy()
    other.ports("source", [(53, 53)])
    (step,) = terms.steps(Step(Match()))
    assert step.match == Match(protocols=TCP, sources=("10.0.0.1",))
    (step,) = other.steps(Step(Match()))
    assert step.match == Match(protocols=TCP, sources=("10.0.0.1",), source_ports=((53, 53),))


def test_each_alternative_of_a_set_is_a_step_that_keeps_the_rules_own_words() -> None:
    terms = MatchTerms()
    terms.protocol([6])
    terms.note(["-m", "set", "--match-set", "x", "src"])
    terms.any_of([Match(sources=("10.0.0.1",)), Match(protocols=UDP)], "set x")
    (step,) = terms.steps(Step(Match(), "drop"))
    assert step.match == Match(protocols=TCP, sources=("10.0.0.1",))
    assert (step.verdict, step.written) == ("drop", Match(protocols=TCP))
    assert step.sets == ("-m set --match-set x src",)


@pytest.mark.parametrize("more", [0, 1])
def test_too_many_alternatives_are_not_known(more: int) -> None:
    terms = MatchTerms()
    terms.note(["set"])
    many = [Match(sources=(f"10.0.{n // 256}.{n % 256}",)) for n in range(ALTERNATIVES + more)]
    terms.any_of(many, "set x")
    steps = terms.steps(Step(Match()))
    assert len(steps) == (1 if more else ALTERNATIVES)
    assert (steps[0].match.unmodelled == (f"set x: {ALTERNATIVES + 1} alternatives",)) is bool(more)


@pytest.mark.parametrize(
    ("mask", "untracked", "names"),
    [
        (0, 64, ()),
        (1, 64, ("invalid",)),
        (2 | 4, 64, ("established", "related")),
        (8 | 64, 64, ("new", "untracked")),
        (8 | 64, 256, ("new",)),
        (256, 256, ("untracked",)),
    ],
)
def test_a_mask_of_states_has_names(mask: int, untracked: int, names: tuple[str, ...]) -> None:
    assert states_of(mask, untracked) == names


def test_a_protocol_without_a_name_is_its_number() -> None:
    assert (protocol_name(6), protocol_name(254)) == ("tcp", "254")
