"""What the kernel logs of packets by netlink, and which of it is a sentence of conntrack's."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator

import pytest

from remedies.errors import Unreadable
from remedies.netfilter.packet_log import LoggedPacket, sentence_of
from remedies.netlink.flow import Tuple
from remedies.netlink.socket import attribute
from remedies.trace.event import Sentence
from remedies.trace.sentences import Sentences
from remedies.values import replace

WAY = Tuple("10.21.17.1", 443, "10.21.17.99", 40000)
UPPER = "SEQ is over upper bound 1234 (over the window of the receiver)"
PSH_ACK = 0x18


def packet(way: Tuple = WAY, protocol: int = 6) -> bytes:
    """Return the first octets of a packet."""
    ends = (socket.inet_aton(end) for end in (way.source, way.destination))
    head = struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0, 64, protocol, 0) + b"".join(ends)
    return head + struct.pack(">HHIIBB6x", way.source_port, way.destination_port, 1, 2, 80, PSH_ACK)


def logged(prefix: str, payload: bytes) -> bytes:
    """Return a message of the kernel: NFULA_*, include/uapi/linux/netfilter/nfnetlink_log.h."""
    header = attribute(1, struct.pack(">HBx", 0x0800, 0))
    return b"\2\0\0\0" + header + attribute(10, prefix.encode() + b"\0") + attribute(9, payload)


@pytest.mark.parametrize(
    ("prefix", "payload", "said"),
    [
        (f"nf_ct_proto_6: {UPPER} ", packet(), LoggedPacket(UPPER, "tcp", WAY, PSH_ACK)),
        ("nf_ct_proto_17: bad checksum ", packet(protocol=17),
         LoggedPacket("bad checksum", "udp", WAY)),
        ("nf_ct_ftp: dropping packet: partial PORT 12+4 ", packet(),
         LoggedPacket("ftp: dropping packet: partial PORT 12+4", "tcp", WAY, PSH_ACK)),
        ("a rule's own prefix: ", packet(), None),
        ("nf_ct_proto_6: ", packet(), None),
        (f"nf_ct_proto_6: {UPPER} ", packet()[:12], None),
        (f"nf_ct_proto_6: {UPPER} ", b"", None),
    ],
)  # fmt: skip
def test_a_sentence_is_told_from_what_rules_log(
    prefix: str, payload: bytes, said: LoggedPacket | None
) -> None:
    assert sentence_of(logged(prefix, payload)) == said


def test_a_message_that_is_cut_is_no_message() -> None:
    with pytest.raises(Unreadable):
        sentence_of(b"\2\0\0\0" + struct.pack("=HH", 40, 10) + b"nf_ct")


class Log:
    """A log that holds these packets."""

    def __init__(self, packets: Iterable[LoggedPacket], lost: int = 0) -> None:
        self._packets, self._lost = list(packets), lost

    def read(self) -> Iterator[LoggedPacket]:
        yield from self._packets
        self._packets.clear()

    def lost(self) -> int:
        return self._lost


def heard(packets: Iterable[LoggedPacket], lost: int = 0) -> Sentences:
    said = Sentences(Log(packets, lost), lambda protocol, way: protocol == "tcp")  # type: ignore[arg-type]
    said.hear()
    return said


def test_a_kind_is_told_once_whatever_numbers_and_port_of_the_client_it_has() -> None:
    ways = [replace(WAY, destination_port=port) for port in (40000, 40001)]
    packets = [
        LoggedPacket(f"SEQ is over upper bound {at}", "tcp", way) for at in (7, 8) for way in ways
    ]
    said = heard(
        [*packets, LoggedPacket("invalid new", "tcp", WAY), LoggedPacket("x", "udp", WAY)], 3
    )
    first, second = said.new()
    assert (first.text, first.way, first.count) == ("SEQ is over upper bound 7", ways[0], 4)
    assert second.text == "invalid new"
    assert list(said.new()) == []
    assert [one.count for one in said.top(1)] == [4]
    assert (said.of("tcp", ways[1]), said.of("tcp", ways[0])) == (
        "SEQ is over upper bound 8", "invalid new")  # fmt: skip
    assert (said.of("udp", WAY), said.of("tcp", WAY.reversed), said.of("tcp", None)) == ("", "", "")
    assert said.lost() == 3


def test_a_flood_of_kinds_is_bounded_and_known_ones_are_counted_on() -> None:
    ways = [Tuple(f"10.{n >> 8}.{n & 255}.1", 40000, "10.21.17.99", 443) for n in range(5000)]
    said = heard(LoggedPacket("invalid new", "tcp", way) for way in [*ways, ways[0], ways[-1]])
    assert len(list(said.new())) == 1024
    assert said.top(1)[0].count == 2
    assert said.of("tcp", ways[4095]) == "invalid new"
    assert said.of("tcp", ways[4096]) == ""


def test_a_line_names_the_packet_and_quotes_the_kernel() -> None:
    said = Sentence(0.0, "invalid new", "tcp", WAY, "RST")
    assert said.line == 'tcp RST 10.21.17.1:443 -> 10.21.17.99:40000: conntrack says "invalid new"'
