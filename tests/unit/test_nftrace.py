"""nftables' own trace: which packets our rules mark, and what the kernel's messages say."""

from __future__ import annotations

import socket
import struct

import pytest

from remedies.netfilter.expressions import decode
from remedies.netfilter.nftrace import ACCEPT, DROP, TraceMessages, TraceVerdict, marking
from remedies.netlink.flow import Tuple
from remedies.netlink.socket import attribute, nested
from remedies.rules.rule import Match
from remedies.values import replace

INET = b"\x01\0\0\0"
WAY = Tuple("10.0.0.9", 5000, "172.17.0.2", 80)
SIX = Tuple("fd00::9", 5000, "fd17::2", 80)


@pytest.mark.parametrize(
    ("protocol", "way", "marked"),
    [
        ("tcp", WAY, Match(protocols=("tcp",), sources=("10.0.0.9",), destinations=("172.17.0.2",),
                           source_ports=((5000, 5000),), destination_ports=((80, 80),))),
        ("udp", SIX, Match(protocols=("udp",), sources=("fd00::9",), destinations=("fd17::2",),
                           source_ports=((5000, 5000),), destination_ports=((80, 80),))),
        ("udp", Tuple("", 0, "172.17.0.2", 53), Match(
            protocols=("udp",), sources=("0.0.0.0/0",), destinations=("172.17.0.2",),
            destination_ports=((53, 53),))),
        ("", Tuple("10.0.0.9", 0, "", 0), Match(sources=("10.0.0.9",))),
        ("icmp", Tuple("10.0.0.9", 7, "", 8), Match(protocols=("icmp",), sources=("10.0.0.9",))),
        ("", Tuple("", 0, "", 0), Match()),
    ],
)  # fmt: skip
def test_a_rule_of_ours_sees_those_packets_at_a_limited_rate_and_decides_nothing(
    protocol: str, way: Tuple, marked: Match
) -> None:
    (step,) = decode(INET + marking(protocol, way), "inet", lambda _: [])
    assert replace(step.match, unmodelled=()) == marked
    assert step.match.unmodelled == ("limit",)
    assert (step.verdict, step.action, step.chain) == ("", "", "")


def packet(way: Tuple, protocol: int = 6) -> bytes:
    """Return the attributes of a packet's headers, as the kernel tells them apart."""
    ends = (socket.inet_aton(end) for end in (way.source, way.destination))
    network = struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0, 64, protocol, 0) + b"".join(ends)
    transport = struct.pack(">HH", way.source_port, way.destination_port).ljust(20, b"\0")
    return attribute(8, network) + attribute(9, transport)


def message(
    number: int,
    kind: int,
    verdict: int = DROP,
    headers: bytes = b"",
    *,
    handle: int = 7,
    family: int = 2,
) -> bytes:
    """Return a message of the kernel: NFTA_TRACE_*, include/uapi/linux/netfilter/nf_tables.h."""
    code = struct.pack(">i", verdict)
    return (
        bytes((family, 0, 0, 0))
        + attribute(1, b"filter\0")
        + attribute(2, b"forward\0")
        + attribute(3, struct.pack(">Q", handle))
        + attribute(4, struct.pack(">I", kind))
        + nested(5, attribute(1, code))
        + attribute(6, struct.pack(">I", number))
        + headers
        + attribute(16, code)
    )


def said(*bodies: bytes) -> list[TraceVerdict]:
    """Return the verdicts that messages tell, in their order."""
    reader = TraceMessages()
    return [verdict for body in bodies if (verdict := reader.verdict(body))]


@pytest.mark.parametrize(
    ("body", "family", "handle", "verdict"),
    [
        (message(1, 3, DROP), "ip", 7, DROP),
        (message(1, 3, ACCEPT), "ip", 7, ACCEPT),
        (message(1, 1, DROP), "ip", 0, DROP),
        (message(1, 3, -3, family=1), "inet", 7, -3),
        (message(1, 3, family=10), "ip6", 7, DROP),
        (message(1, 3, family=99), "99", 7, DROP),
    ],
    ids=["a rule", "it accepts", "a policy", "a jump", "IPv6", "a family that is not known"],
)
def test_a_message_says_who_decided_what(
    body: bytes, family: str, handle: int, verdict: int
) -> None:
    (told,) = said(body)
    assert (told.family, told.table, told.chain) == (family, "filter", "forward")
    assert (told.handle, told.verdict) == (handle, verdict)


@pytest.mark.parametrize(
    "kind", [0, 2, 4], ids=["unspecified", "a return", "one that is not known"]
)
def test_what_decides_nothing_is_passed_over(kind: int) -> None:
    assert said(message(1, kind)) == []


def test_a_message_without_a_verdict_is_passed_over() -> None:
    assert said(INET + attribute(4, struct.pack(">I", 3))) == []
    assert said(INET) == []


def test_a_packets_headers_hold_for_what_is_said_of_it_later() -> None:
    other = Tuple("10.0.0.9", 5001, "172.17.0.2", 80)
    first, later, second = said(
        message(1, 3, ACCEPT, packet(WAY)), message(1, 1), message(2, 3, DROP, packet(other, 17))
    )
    assert (first.protocol, first.way) == ("tcp", WAY)
    assert (later.protocol, later.way) == ("tcp", WAY)
    assert (second.protocol, second.way) == ("udp", other)


def test_headers_that_nat_has_changed_take_the_place_of_those_before() -> None:
    turned = Tuple("10.0.0.9", 5000, "172.17.0.3", 8080)
    told = said(message(1, 3, ACCEPT, packet(WAY)), message(1, 3, DROP, packet(turned)))
    assert [each.way for each in told] == [WAY, turned]


def test_headers_cut_short_are_none() -> None:
    for headers in (attribute(8, b""), attribute(8, b"\x45"), attribute(8, b"\x00" * 20)):
        (told,) = said(message(1, 3, DROP, headers))
        assert told.way is None


def test_packets_are_forgotten_before_there_are_too_many() -> None:
    reader = TraceMessages()
    for number in range(4097):
        reader.verdict(message(number, 3, DROP, packet(WAY)))
    newest, oldest = reader.verdict(message(4096, 3)), reader.verdict(message(0, 3))
    assert newest is not None
    assert oldest is not None
    assert (newest.way, oldest.way) == (WAY, None)
