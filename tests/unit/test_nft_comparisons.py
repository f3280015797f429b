"""The comparisons of nf_tables, decoded to the packets that they let through."""

from __future__ import annotations

import struct

import pytest

from remedies.errors import Unreadable
from remedies.netfilter.expressions import decode
from remedies.netlink.socket import attribute, nested
from remedies.rules.rule import Match

EQ, NEQ, LT, LTE, GT, GTE = range(6)  # enum nft_cmp_ops, include/uapi/linux/netfilter/nf_tables.h
TCP = 6


def _word(key: int, number: int) -> bytes:
    return attribute(key, struct.pack(">I", number))


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(1, attribute(1, name.encode() + b"\0"), nested(2, *parts))


def _compare(operator: int, value: bytes) -> bytes:
    return _expression("cmp", _word(1, 1), _word(2, operator), nested(3, attribute(1, value)))


def _range(operator: int, low: int, high: int) -> bytes:
    ends = (nested(key, attribute(1, struct.pack(">H", n))) for key, n in ((3, low), (4, high)))
    return _expression("range", _word(1, 1), _word(2, operator), *ends)


def ports(demand: bytes) -> list[tuple[tuple[int, int], ...]]:
    """Return the destination ports of each step of 'tcp dport OPERATOR VALUE drop'."""
    body = struct.pack(">BBH", 2, 0, 0) + nested(
        4,
        _expression("meta", _word(1, 1), _word(2, 16)),  # NFT_META_L4PROTO
        _compare(EQ, bytes([TCP])),
        _expression("payload", _word(1, 1), _word(2, 2), _word(3, 2), _word(4, 2)),
        demand,
        _expression("immediate", _word(1, 0), nested(2, nested(2, attribute(1, bytes(4))))),
    )
    steps = decode(body, "inet", lambda *_: [])
    assert all(step.verdict == "drop" and step.match.protocols == ("tcp",) for step in steps)
    assert not any(step.match.unmodelled for step in steps)
    return [step.match.destination_ports for step in steps]


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (EQ, [(80, 80)]),
        (NEQ, [(0, 79), (81, 65535)]),
        (LT, [(0, 79)]),
        (LTE, [(0, 80)]),
        (GT, [(81, 65535)]),
        (GTE, [(80, 65535)]),
    ],
)
def test_each_comparison_has_its_own_ports(operator: int, expected: list[tuple[int, int]]) -> None:
    assert ports(_compare(operator, struct.pack(">H", 80))) == [tuple(expected)]


@pytest.mark.parametrize(("operator", "value"), [(LT, 0), (GT, 65535)])
def test_what_no_port_can_be_narrows_nothing(operator: int, value: int) -> None:
    """nft refuses to load such a rule. Read as too wide it hides nothing."""
    assert ports(_compare(operator, struct.pack(">H", value))) == [()]


def test_a_range_has_both_its_ends() -> None:
    assert ports(_range(EQ, 80, 90)) == [((80, 90),)]
    assert ports(_range(NEQ, 80, 90)) == [((0, 79), (91, 65535))]


def test_a_comparison_cut_short_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        ports(_expression("cmp", _word(1, 1), _word(2, EQ)))


def seen(family: str, protocol: int, span: tuple[int, int, int], demand: bytes) -> Match:
    """Return what a rule sees that loads a span (base, offset, length) of a protocol's packets."""
    body = struct.pack(">BBH", 2, 0, 0) + nested(
        4,
        _expression("meta", _word(1, 1), _word(2, 16)),  # NFT_META_L4PROTO
        _compare(EQ, bytes([protocol])),
        _expression("payload", _word(1, 1), *(_word(2 + at, each) for at, each in enumerate(span))),
        demand,
    )
    (step,) = decode(body, family, lambda *_: [])
    return step.match


@pytest.mark.parametrize(
    ("family", "protocol", "span", "value", "found"),
    [
        ("inet", TCP, (2, 0, 4), "01bb0016",
         Match(("tcp",), source_ports=((443, 443),), destination_ports=((22, 22),))),
        ("inet", 1, (2, 0, 2), "0304",
         Match(("icmp",), unmodelled=("icmp type == 3", "icmp code == 4"))),
        ("inet", 58, (2, 0, 2), "0200",
         Match(("icmpv6",), unmodelled=("icmp type == 2", "icmp code == 0"))),
        ("ip", TCP, (1, 8, 2), "ff06", Match(("tcp",), unmodelled=("ttl",))),
        ("ip", TCP, (1, 12, 8), "0a0000010a000002",
         Match(("tcp",), ("10.0.0.1",), destinations=("10.0.0.2",))),
        ("ip", TCP, (1, 13, 7), "00000100000000", Match(("tcp",), unmodelled=("payload 1,13,7",))),
        ("inet", TCP, (1, 8, 2), "ff06", Match(("tcp",), unmodelled=("payload 1,8,2",))),
        ("ip6", TCP, (1, 6, 2), "0640", Match(("tcp",), unmodelled=("ttl",))),
    ],
)  # fmt: skip
def test_neighbours_that_are_loaded_in_one_are_told_apart(
    family: str, protocol: int, span: tuple[int, int, int], value: str, found: Match
) -> None:
    assert seen(family, protocol, span, _compare(EQ, bytes.fromhex(value))) == found


def test_all_but_a_pair_is_not_modelled() -> None:
    met = seen("inet", TCP, (2, 0, 4), _compare(NEQ, bytes.fromhex("01bb0016")))
    assert met == Match(("tcp",), unmodelled=("payload 2,0,4",))
