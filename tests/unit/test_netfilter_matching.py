"""Conjunction and coverage of matches, against packets tried one by one."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remedies.rules.matching import (
    conjoin,
    covers,
    name_covers,
    names_meet,
    ports_except,
    remainder,
)
from remedies.rules.prefixes import contains, meet, of_range, outside, parse, show
from remedies.rules.rule import Match
from remedies.values import replace


@dataclass(frozen=True)
class Packet:
    protocol: str
    source: str
    destination: str
    source_port: int
    destination_port: int
    in_interface: str
    out_interface: str
    local: bool
    own: bool
    state: str


ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.1.1", "192.0.2.1")
PREFIXES = ("10.0.0.0/8", "10.0.0.0/24", "10.0.0.1", "192.0.2.0/24", "0.0.0.0/0")
NAMES = ("eth0", "eth1", "docker0", "lo")
PATTERNS = (*NAMES, "eth*", "*")
RANGES = ((53, 53), (50, 60), (0, 1023), (60, 5060), (5060, 5060))
STATES = ("invalid", "new", "established")


def few(values: tuple[Any, ...]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(values), max_size=2, unique=True).map(tuple)


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "protocols": few(("udp", "tcp")),
    "sources": few(PREFIXES),
    "not_sources": few(PREFIXES[1:4]),
    "destinations": few(PREFIXES),
    "not_destinations": few(PREFIXES[1:4]),
    "source_ports": few(RANGES),
    "destination_ports": few(RANGES),
    "in_interfaces": few(PATTERNS),
    "not_in_interfaces": few(PATTERNS[:5]),
    "out_interfaces": few(PATTERNS),
    "not_out_interfaces": few(PATTERNS[:5]),
    "destination_local": st.sampled_from((None, True, False)),
    "source_local": st.sampled_from((None, True, False)),
    "states": few(STATES),
}
# Of few fields: with more of them hardly a packet is accepted, and nothing is compared.
matches = (
    st.lists(st.sampled_from(sorted(FIELDS)), max_size=3, unique=True)
    .flatmap(lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names}))
    .map(lambda fields: Match(**fields))
)
packets = st.builds(
    Packet,
    protocol=st.sampled_from(("udp", "tcp")),
    source=st.sampled_from(ADDRESSES),
    destination=st.sampled_from(ADDRESSES),
    source_port=st.sampled_from((53, 55, 1000, 5060, 40000)),
    destination_port=st.sampled_from((53, 55, 1000, 5060, 40000)),
    in_interface=st.sampled_from(NAMES),
    out_interface=st.sampled_from(NAMES),
    local=st.booleans(),
    own=st.booleans(),
    state=st.sampled_from(STATES),
)


def accepts(match: Match, packet: Packet) -> bool:
    def inside(address: str, yes: tuple[str, ...], no: tuple[str, ...]) -> bool:
        value = ipaddress.ip_address(address)
        return (not yes or any(value in ipaddress.ip_network(p) for p in yes)) and not any(
            value in ipaddress.ip_network(p) for p in no
        )

    def named(name: str, yes: tuple[str, ...], no: tuple[str, ...]) -> bool:
        def fits(pattern: str) -> bool:
            return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern

        return (not yes or any(map(fits, yes))) and not any(map(fits, no))

    def ported(port: int, ranges: tuple[tuple[int, int], ...]) -> bool:
        return not ranges or any(a <= port <= b for a, b in ranges)

    return (
        (not match.protocols or packet.protocol in match.protocols)
        and inside(packet.source, match.sources, match.not_sources)
        and inside(packet.destination, match.destinations, match.not_destinations)
        and ported(packet.source_port, match.source_ports)
        and ported(packet.destination_port, match.destination_ports)
        and named(packet.in_interface, match.in_interfaces, match.not_in_interfaces)
        and named(packet.out_interface, match.out_interfaces, match.not_out_interfaces)
        and match.destination_local in (None, packet.local)
        and match.source_local in (None, packet.own)
        and (not match.states or packet.state in match.states)
    )


@settings(max_examples=300)
@given(matches, matches, packets)
def test_conjunction_is_what_both_accept(one: Match, other: Match, packet: Packet) -> None:
    met: Optional[Match] = conjoin(one, other)
    both = accepts(one, packet) and accepts(other, packet)
    assert both == (met is not None and accepts(met, packet))


@settings(max_examples=300)
@given(matches, matches, packets)
def test_what_covers_accepts_whatever_the_other_accepts(
    wide: Match, narrow: Match, packet: Packet
) -> None:
    if covers(wide, narrow) and accepts(narrow, packet):
        assert accepts(wide, packet)


@settings(max_examples=300)
@given(matches, matches, packets)
def test_the_remainder_is_what_the_other_does_not_accept(
    one: Match, other: Match, packet: Packet
) -> None:
    """In parts that share none; protocol and state are those of the first."""
    other = replace(other, protocols=(), states=())
    left = [part for part in remainder(one, other) if accepts(part, packet)]
    assert len(left) == (accepts(one, packet) and not accepts(other, packet))


@given(matches)
def test_everything_covers_and_each_consistent_match_covers_itself(match: Match) -> None:
    consistent = conjoin(match, Match())
    if consistent is not None:
        assert covers(Match(), consistent)
        assert covers(consistent, consistent)


def test_what_is_not_modelled_covers_nothing_and_adds_up() -> None:
    odd = Match(unmodelled=("mark",))
    assert not covers(odd, Match())
    met = conjoin(odd, Match(protocols=("udp",), unmodelled=("limit",)))
    assert met is not None
    assert met.unmodelled == ("mark", "limit")


def test_different_ip_versions_never_meet() -> None:
    assert conjoin(Match(sources=("0.0.0.0/0",)), Match(destinations=("2001:db8::/32",))) is None


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(sorted)))
def test_ports_except_is_the_complement(pairs: list[list[int]]) -> None:
    ranges = [(a, b) for a, b in pairs]
    rest = ports_except(ranges)
    for port in {p for pair in ranges for p in (*pair, pair[0] - 1, pair[1] + 1)} | {0, 65535}:
        if 0 <= port <= 65535:
            inside = any(a <= port <= b for a, b in ranges)
            assert inside != any(a <= port <= b for a, b in rest)


networks = st.builds(
    lambda number, length: str(ipaddress.ip_network((number, length), strict=False)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)


@given(networks, networks)
def test_prefixes_agree_with_ipaddress(one: str, other: str) -> None:
    a, b = ipaddress.IPv4Network(one), ipaddress.IPv4Network(other)
    assert contains(one, other) == b.subnet_of(a)
    assert (meet(one, other) is not None) == a.overlaps(b)
    assert ipaddress.ip_network(show(parse(one))) == a


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_range_to_prefixes_agrees_with_ipaddress(one: int, other: int) -> None:
    first, last = sorted((one, other))
    expected = ipaddress.summarize_address_range(
        ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)
    )
    assert [ipaddress.ip_network(p) for p in of_range(32, first, last)] == list(expected)


def test_outside_knows_when_holes_fill_a_prefix() -> None:
    assert not outside("10.0.0.0/24", ["10.0.0.0/25", "10.0.0.128/25"])
    assert outside("10.0.0.0/24", ["10.0.0.0/25", "10.0.0.192/26"])
    assert outside("10.0.0.0/24", ["2001:db8::/32"])


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("eth0", "eth0", "eth0"), ("eth0", "eth1", None), ("eth", "eth0", None),
        ("veth*", "veth1", "veth1"), ("veth*", "vet", None), ("veth*", "eth1", None),
        ("veth*", "veth1*", "veth1*"), ("*", "eth0", "eth0"), ("eth*", "veth*", None),
    ],
)  # fmt: skip
def test_patterns_of_interfaces_meet_in_the_narrower_one(
    one: str, other: str, both: Optional[str]
) -> None:
    assert names_meet(one, other) == names_meet(other, one) == both
    assert name_covers(one, other) == (both == other)


@pytest.mark.parametrize(
    "text",
    ["", "x", "10.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/x", "10.0.0.0/-1",
     "10.0.0.0/\u0664", "10.0.0.0/ 8", "::/129"],
)  # fmt: skip
def test_what_is_no_prefix_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("10.0.0.0/0", "0.0.0.0/0"), ("10.1.2.3/8", "10.0.0.0/8"), ("10.1.2.3/32", "10.1.2.3"),
     ("10.1.2.3", "10.1.2.3"), ("::1/128", "::1"), ("fd00::1/64", "fd00::/64")],
)  # fmt: skip
def test_host_bits_of_a_prefix_are_cleared(text: str, shown: str) -> None:
    assert show(parse(text)) == shown


LAN, ELSEWHERE = ("10.0.0.0/8",), ("192.0.2.0/24",)
LEFT: list[tuple[str, Match, tuple[Match, ...]]] = [
    ("all", Match(), ()),
    ("a source", Match(sources=LAN), (Match(not_sources=LAN),)),
    ("all but a source", Match(not_sources=LAN), (Match(sources=LAN),)),
    ("a destination", Match(destinations=LAN), (Match(not_destinations=LAN),)),
    ("all but a destination", Match(not_destinations=LAN), (Match(destinations=LAN),)),
    ("a link in", Match(in_interfaces=("eth0",)), (Match(not_in_interfaces=("eth0",)),)),
    ("all but a link in", Match(not_in_interfaces=("eth0",)), (Match(in_interfaces=("eth0",)),)),
    ("a link out", Match(out_interfaces=("eth0",)), (Match(not_out_interfaces=("eth0",)),)),
    ("all but a link out", Match(not_out_interfaces=("eth0",)), (Match(out_interfaces=("eth0",)),)),
    ("a port", Match(source_ports=((53, 53),)), (Match(source_ports=((0, 52), (54, 65535))),)),
    ("its ports", Match(destination_ports=((0, 99),)),
     (Match(destination_ports=((100, 65535),)),)),
    ("every port", Match(source_ports=((0, 65535),), destination_ports=((0, 65535),)), ()),
    ("to this host", Match(destination_local=True), (Match(destination_local=False),)),
    ("not to this host", Match(destination_local=False), (Match(destination_local=True),)),
    ("from this host", Match(source_local=True), (Match(source_local=False),)),
    ("not from this host", Match(source_local=False), (Match(source_local=True),)),
    ("two conditions", Match(sources=LAN, in_interfaces=("eth0",)),
     (Match(not_sources=LAN), Match(sources=LAN, not_in_interfaces=("eth0",)))),
]  # fmt: skip


@pytest.mark.parametrize(("taken", "left"), [row[1:] for row in LEFT], ids=[row[0] for row in LEFT])
def test_what_a_rule_leaves_of_all_packets(taken: Match, left: tuple[Match, ...]) -> None:
    parts = remainder(Match(), taken)
    assert parts == left
    assert all(conjoin(part, taken) is None for part in parts)


def test_what_a_rule_never_sees_is_left_whole() -> None:
    packets = Match(sources=ELSEWHERE, in_interfaces=("br0",))
    assert remainder(packets, Match(sources=LAN)) == (packets,)


@pytest.mark.parametrize(
    ("ranges", "others"),
    [
        (((0, 65534),), ((65535, 65535),)),
        (((1, 65535),), ((0, 0),)),
        (((0, 65535),), ()),
        (((0, 9), (20, 65535)), ((10, 19),)),
    ],
)
def test_the_ports_beside_some(
    ranges: tuple[tuple[int, int], ...], others: tuple[tuple[int, int], ...]
) -> None:
    assert ports_except(ranges) == others


@pytest.mark.parametrize(
    ("ports", "held"), [((10, 20), True), ((1, 100), True), ((50, 101), False), ((0, 50), False)]
)
def test_a_range_of_ports_holds_another_whole(ports: tuple[int, int], held: bool) -> None:
    wide, narrow = (Match(("udp",), destination_ports=(each,)) for each in ((1, 100), ports))
    assert covers(wide, narrow) is held
