"""Which connections do not go on, judged on segments as they are heard."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import Optional

import pytest
from test_trace_packets import run

from remedies.facts.stalls import Stall, Stalls, passed_on
from remedies.model import Held
from remedies.netlink.flow import Flow, Tuple
from remedies.status.harm import of_stalls
from remedies.tap import segments
from remedies.tap.segments import ACK, FIN, RST, SYN, Segment
from remedies.tap.streams import DATA, HANDSHAKE, PASSING, SYN_ACK, Streams

CLIENT, SERVER, HOST = "10.0.1.2", "10.0.2.2", "10.0.1.1"
IN, OUT = False, True
Heard = tuple[float, bool, Segment]


def say(
    source: str, destination: str, flags: int, sequence: int, ack: int = 0, length: int = 0,
    window: int = 500,
) -> Segment:  # fmt: skip
    """Return a segment between port 40000 of the client and port 80 of whoever serves."""
    ports = (40000, 80) if source == CLIENT else (80, 40000)
    ends = b"".join(socket.inet_aton(end) for end in (source, destination))
    return Segment(ends + struct.pack(">HH", *ports), sequence, ack, flags, window, length)


def kinds(heard: Iterable[Heard], now: float = 2.0) -> list[tuple[str, int]]:
    """Return kind and number of segments of what stands still at ``now``."""
    streams = Streams(100)
    for time, outgoing, said in heard:
        streams.take(said, outgoing, 2, time)
    return [(s.kind, s.segments) for s in streams.suspects(now, frozenset({HOST}))]


SHAKEN: list[Heard] = [
    (0.0, IN, say(CLIENT, HOST, SYN, 100)),
    (0.0, OUT, say(HOST, CLIENT, SYN | ACK, 500, 101)),
    (0.1, IN, say(CLIENT, HOST, ACK, 101, 501)),
]
QUESTION = say(CLIENT, HOST, ACK, 101, 501, 8)


def test_data_that_nobody_acknowledges() -> None:
    again = [(0.2, IN, QUESTION), (0.6, IN, QUESTION)]
    assert kinds([*SHAKEN, *again]) == [(DATA, 2)]
    assert kinds([*SHAKEN, *again[:1]], now=0.35) == [], "not long enough"
    assert kinds([*SHAKEN, *again[:1]]) == [(DATA, 1)]


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("acknowledged", say(HOST, CLIENT, ACK, 501, 109)),
        ("no room", say(HOST, CLIENT, ACK, 501, 101, window=0)),
    ],
)
def test_data_that_gets_on(name: str, end: Segment) -> None:
    assert kinds([*SHAKEN, (0.2, IN, QUESTION), (0.6, IN, QUESTION), (0.7, OUT, end)]) == [], name


def test_data_that_stood_still_until_its_receiver_gave_up() -> None:
    heard = [*SHAKEN, (0.2, IN, QUESTION), (0.6, IN, QUESTION)]
    assert kinds([*heard, (1.5, OUT, say(HOST, CLIENT, FIN | ACK, 501, 101))]) == [(DATA, 2)]
    assert kinds([*heard, (0.3, OUT, say(HOST, CLIENT, RST, 501))]) == [], "a reset at once"


def test_a_stray_is_waited_for_by_nobody() -> None:
    stray = say(CLIENT, HOST, ACK, 101 + 500_000_000, 501, 8)
    answered = (0.15, OUT, say(HOST, CLIENT, ACK, 501, 101))
    assert kinds([*SHAKEN, answered, *((0.2 + n / 10, IN, stray) for n in range(9))]) == []


def test_where_no_acknowledgment_was_heard_data_has_to_come_three_times() -> None:
    assert kinds([(n / 2, IN, QUESTION) for n in range(2)]) == []
    assert kinds([(n / 2, IN, QUESTION) for n in range(3)]) == [(DATA, 3)]


INSIDE = "10.9.0.2"


@pytest.mark.parametrize(
    ("leaves", "flow", "share", "passed"),
    [
        (None, True, 0, False),
        (say(CLIENT, INSIDE, ACK, 101, 501, 8), True, 0, True),
        (say(CLIENT, INSIDE, ACK, 101, 501, 4), True, 0, False),
        (say(CLIENT, INSIDE, ACK, 101, 501, 8), False, 0, False),
        (None, True, 3, True),
    ],
    ids=["nowhere", "under its new name", "in part", "no flow", "unheard share"],
)
def test_data_that_leaves_as_nat_names_it_is_passed_on(
    leaves: Optional[Segment], flow: bool, share: int, passed: bool
) -> None:
    streams = Streams(100)
    port = 8080 if share else 80
    for time in (0.0, 0.5, 1.0):
        streams.take(QUESTION, IN, 2, time)
        if leaves is not None:
            streams.take(leaves, OUT, 3, time)
    (suspect,) = (s for s in streams.suspects(2.0, frozenset({HOST})) if s.kind == DATA)
    known = Flow(
        "tcp",
        Tuple(CLIENT, 40000, HOST, 80),
        Tuple(INSIDE, port, CLIENT, 40000),
        seen_reply=True,
        nat=True,
    )
    assert passed_on(streams, suspect, known if flow else None, share) == passed


def test_a_handshake_after_which_nothing_is_heard() -> None:
    assert kinds(SHAKEN) == [(HANDSHAKE, 1)]
    assert kinds([*SHAKEN, (0.2, OUT, say(HOST, CLIENT, ACK, 501, 101, 5))]) == []


def test_what_is_passed_on_and_what_is_not() -> None:
    offer = say(SERVER, CLIENT, SYN | ACK, 500, 101)
    assert kinds([(0.0, IN, offer), (1.0, IN, offer)]) == [(SYN_ACK, 2)]
    assert kinds([(0.0, IN, offer), (0.0, OUT, offer)]) == []
    bare = [(n / 10, IN, say(SERVER, CLIENT, ACK, 501, 101 + n)) for n in range(3)]
    assert kinds(bare) == [(PASSING, 3)]
    assert kinds([(0.0, IN, say(SERVER, CLIENT, FIN | ACK, 501, 101))] * 3) == [], "only its end"
    asked = say(CLIENT, SERVER, ACK, 101, 501, 8)
    assert kinds([(n / 2, way, asked) for n in range(3) for way in (IN, OUT)]) == []


def test_a_packet_of_a_bridge_and_of_its_port_is_one() -> None:
    streams = Streams(100)
    for link in (3, 2):
        streams.take(QUESTION, IN, link, 0.0)
    assert list(streams.suspects(0.1, frozenset())) == []


def test_no_more_connections_than_the_limit() -> None:
    streams = Streams(1)
    for _, outgoing, said in SHAKEN:
        streams.take(said, outgoing, 2, 0.0)
    streams.take(say(CLIENT, SERVER, ACK, 1), IN, 2, 0.0)
    assert streams.unexamined == 1


DROP = (
    '{"table": {"family": "inet", "name": "t"}}\n'
    '{"chain": {"family": "inet", "table": "t", "name": "c", "hook": "input", "prio": 0, '
    '"type": "filter"}}\n'
    '{"rule": {"family": "inet", "table": "t", "chain": "c", "expr": [{"drop": null}]}}\n'
)


def drop(resource: str) -> Held:
    return Held(resource, "invalid-drop", None, DROP, "t")


@pytest.mark.parametrize(
    ("kind", "counted", "resource", "harm"),
    [
        (DATA, 2, "nft:inet/t", True),
        (DATA, 1, "nft:inet/t", False),
        (DATA, 2, "ip6tables:mangle/REMEDY-INVALID", False),
        (SYN_ACK, 2, "nft:inet/t", True),
        (HANDSHAKE, 2, "iptables:mangle/REMEDY-INVALID", True),
        (PASSING, 2, "nft:ip/t", True),
    ],
)
def test_harm_is_what_the_counter_and_the_socket_say_together(
    kind: str, counted: int, resource: str, harm: bool
) -> None:
    stalls = Stalls((Stall(Tuple(CLIENT, 40000, SERVER, 80), kind, 2),), 1.0)
    found = of_stalls([(drop(resource), counted)], stalls)
    assert bool(found) == harm
    assert all("10.0.1.2:40000 -> 10.0.2.2:80" in item.reason for item in found)


@pytest.mark.parametrize("kind", [SYN_ACK, HANDSHAKE, PASSING])
def test_a_connection_that_conntrack_has_seen_whole_is_not_harmed(kind: str) -> None:
    way = Tuple(CLIENT, 40000, SERVER, 80)
    back = Tuple(SERVER, 80, CLIENT, 40000)
    flow: Optional[Flow] = Flow("tcp", way, back, seen_reply=True, nat=False)
    stalls = Stalls((Stall(way, kind, 2, flow=flow),), 1.0)
    assert of_stalls([(drop("nft:inet/t"), 9)], stalls) == ()


@pytest.mark.parametrize(
    "way", [Tuple(CLIENT, 40000, SERVER, 80), Tuple("fd00::1", 7, "fd00::2", 9)]
)
def test_the_filter_and_what_it_lets_through(way: Tuple) -> None:
    family = socket.AF_INET6 if ":" in way.source else socket.AF_INET
    ends = b"".join(socket.inet_pton(family, end) for end in (way.source, way.destination))
    body = struct.pack(">HHIIBBHHH", way.source_port, way.destination_port, 7, 8, 0x50, ACK, 9,
                       0, 0) + b"data"  # fmt: skip
    if family == socket.AF_INET6:
        packet = struct.pack(">IHBB", 6 << 28, len(body), 6, 64) + ends + body
    else:
        packet = struct.pack(">BBHHHBBH", 0x45, 0, 44, 0, 0, 64, 6, 0) + ends + body
    said = segments.segment_of(packet)
    assert said is not None
    assert segments.spell(said.way) == way
    assert segments.spell(segments.reversed_way(said.way)) == way.reversed
    assert said[1:] == (7, 8, ACK, 9, 4)
    for kind, link, taken in ((0, 2, True), (4, 2, True), (3, 2, False), (0, 1, False)):
        assert bool(run(segments.program(), packet, kind, link)) == taken
    shares = [bool(run(segments.program(n), packet, 0)) for n in (1, 2, 12)]
    total = (way.source_port + way.destination_port) >> 1
    assert shares == [total % (1 << n) == 0 for n in (1, 2, 12)]
    for port, protocols, taken in (
        (way.source_port, (6, 17), True),
        (way.destination_port, (6,), True),
        (way.source_port, (17,), False),
        (50_000, (6,), False),
    ):
        others = tuple((n, n) for n in range(60_000, 60_000 + segments.MOST_RANGES - 1))
        ranges = ((port - 1, port + 1), *others)
        assert bool(run(segments.program(0, protocols, ranges), packet, 0)) == taken
        assert bool(run(segments.program(0, protocols, ranges[::-1]), packet, 0)) == taken
    for cut in range(len(packet) - 4):
        segments.segment_of(packet[:cut])
