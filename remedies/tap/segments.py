"""TCP segments that arrive here and leave: which of them the kernel hands us, and what they say.

Layouts: RFC 791, RFC 8200, RFC 9293. Later fragments and packets with IPv6 extension headers are
left out, and so is the loopback: what a program says to another here passes no forward hook, and
NAT for it ends on another link.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Optional

from remedies.netlink.flow import Tuple
from remedies.tap import program as bpf
from remedies.tap.program import Line
from remedies.values import NamedTuple

SNAP = 96
"""Bytes of a packet that are kept: an IP header with options, and TCP's without."""
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

_HALF_X, _LOAD_X_MEMORY, _ADD_X = bpf.LOAD_HALF_X, 0x61, 0x0C
_JUMP_ABOVE, _JUMP_FROM = 0x25, 0x35
_TCP_NUMBER, _UDP_NUMBER = 6, 17
MOST_RANGES = 32
"""Ranges of ports of a filter: a jump of classic BPF leads over 255 lines at most."""
_LOOPBACK, _HOST, _OUTGOING = 1, 0, 4
_PORTS = struct.Struct(">HH")
_TCP = struct.Struct(">4xIIBBH")

_ARRIVES_OR_LEAVES = (
    Line(bpf.LOAD_WORD, bpf.LINK),
    Line(bpf.JUMP_EQUAL, _LOOPBACK, true="leave"),
    Line(bpf.LOAD_BYTE, bpf.PACKET_TYPE),
    Line(bpf.JUMP_EQUAL, _OUTGOING, true="protocol"),
    Line(bpf.JUMP_EQUAL, _HOST, false="leave"),
    Line(bpf.LOAD_HALF, bpf.PROTOCOL, label="protocol"),
    Line(bpf.JUMP_EQUAL, 0x0800, true="v4"),
    Line(bpf.JUMP_EQUAL, 0x86DD, false="leave"),
    Line(bpf.LOAD_BYTE, 6),
)
"""Goes on at ``v4`` for IPv4, and behind itself with IPv6's next header."""


class Segment(NamedTuple):
    """What one segment says."""

    way: bytes
    """Addresses and ports, as they stand in the packet."""
    sequence: int
    acknowledges: int
    flags: int
    window: int
    """As it stands in the header: unscaled, but 0 is 0."""
    length: int
    """Bytes of data."""


def program(
    share: int = 0, protocols: Sequence[int] = (_TCP_NUMBER,), ports: Sequence[tuple[int, int]] = ()
) -> bytes:
    """Return a filter for TCP, or ``protocols``, that arrives for this host, passes or leaves.

    ``share``: one connection in 2**share, both its directions, chosen by the sum of its ports
    (without the lowest bit: connect() takes ports of one parity). ``ports``: ranges, one of which
    has the source port or the destination port; at most :data:`MOST_RANGES`. None is any.
    """
    return bpf.assemble(
        [
            *_ARRIVES_OR_LEAVES,
            *_one_of(protocols, "ports6"),
            Line(bpf.LOAD_HALF, 40, label="ports6"),
            Line(bpf.STORE, 0),
            Line(bpf.LOAD_HALF, 42),
            Line(bpf.STORE, 1),
            Line(bpf.JUMP_ANY, 0, true="leave", false="ports"),  # no bit of 0: always on
            Line(bpf.LOAD_BYTE, 9, label="v4"),
            *_one_of(protocols, "first4"),
            Line(bpf.LOAD_HALF, 6, label="first4"),
            Line(bpf.JUMP_ANY, 0x1FFF, true="leave"),
            Line(bpf.HEADER_LENGTH, 0),
            Line(_HALF_X, 0),
            Line(bpf.STORE, 0),
            Line(_HALF_X, 2),
            Line(bpf.STORE, 1),
            Line(bpf.LOAD_MEMORY, 0, label="ports"),
            *_in_ranges(ports),
            Line(_LOAD_X_MEMORY, 1, label="share"),
            Line(bpf.LOAD_MEMORY, 0),
            Line(_ADD_X, 0),
            Line(bpf.AND, ((1 << share) - 1) << 1),
            Line(bpf.JUMP_EQUAL, 0, true="take"),
            Line(bpf.RETURN, 0, label="leave"),
            Line(bpf.RETURN, SNAP, label="take"),
        ]
    )


def _one_of(values: Sequence[int], then: str) -> list[Line]:
    """Return the lines that go on at ``then`` for one of the values, and leave for others."""
    return [
        Line(bpf.JUMP_EQUAL, value, true=then, false="" if value != values[-1] else "leave")
        for value in values
    ]


def _in_ranges(ports: Sequence[tuple[int, int]]) -> list[Line]:
    """Return the lines that go on at ``share`` if either port is in a range; none: always."""
    if not ports:
        return []
    lines, label = [], ""
    for memory in (0, 1):
        lines.append(Line(bpf.LOAD_MEMORY, memory, label=label))
        label = ""
        for number, (first, last) in enumerate(ports):
            after = f"range {memory}.{number}"
            lines.append(Line(_JUMP_FROM, first, label=label, false=after))
            lines.append(Line(_JUMP_ABOVE, last, false="share"))
            label = after
    return [*lines, Line(bpf.RETURN, 0, label=label)]


def datagrams(ports: tuple[int, ...], clients: Sequence[str] = ()) -> bytes:
    """Return a filter for UDP that arrives for one of ``ports``, or leaves from one.

    What arrives from one of ``clients`` is taken for any port; of IPv6 addresses the last four
    bytes are compared, so that the caller has to look again.
    """
    words = dict.fromkeys(_last_word(client) for client in clients)
    return bpf.assemble(
        [
            Line(bpf.LOAD_WORD, bpf.LINK),
            Line(bpf.JUMP_EQUAL, _LOOPBACK, true="leave"),
            Line(bpf.LOAD_HALF, bpf.PROTOCOL),
            Line(bpf.JUMP_EQUAL, 0x0800, true="v4"),
            Line(bpf.JUMP_EQUAL, 0x86DD, false="leave"),
            Line(bpf.LOAD_BYTE, 6),
            Line(bpf.JUMP_EQUAL, 17, false="leave"),
            Line(bpf.LOAD_HALF, 40),
            Line(bpf.STORE, 0),
            Line(bpf.LOAD_HALF, 42),
            Line(bpf.STORE, 1),
            Line(bpf.LOAD_WORD, 20),
            Line(bpf.STORE, 2),
            Line(bpf.JUMP_ANY, 0, true="leave", false="way"),
            Line(bpf.LOAD_BYTE, 9, label="v4"),
            Line(bpf.JUMP_EQUAL, 17, false="leave"),
            Line(bpf.LOAD_WORD, 12),
            Line(bpf.STORE, 2),
            Line(bpf.LOAD_HALF, 6),
            Line(bpf.JUMP_ANY, 0x1FFF, true="leave"),
            Line(bpf.HEADER_LENGTH, 0),
            Line(_HALF_X, 0),
            Line(bpf.STORE, 0),
            Line(_HALF_X, 2),
            Line(bpf.STORE, 1),
            Line(bpf.LOAD_BYTE, bpf.PACKET_TYPE, label="way"),
            Line(bpf.JUMP_EQUAL, _OUTGOING, true="source"),
            Line(bpf.JUMP_EQUAL, _HOST, false="leave"),
            Line(bpf.LOAD_MEMORY, 1),
            Line(bpf.JUMP_ANY, 0, true="leave", false="ports"),
            Line(bpf.LOAD_MEMORY, 0, label="source"),
            *(
                Line(bpf.JUMP_EQUAL, port, label="" if number else "ports", true="take")
                for number, port in enumerate(ports)
            ),
            Line(bpf.LOAD_MEMORY, 2),
            *(Line(bpf.JUMP_EQUAL, word, true="take") for word in words),
            Line(bpf.RETURN, 0, label="leave"),
            Line(bpf.RETURN, SNAP, label="take"),
        ]
    )


def of_networks(networks: Sequence[str]) -> bytes:
    """Return a filter for TCP and UDP that arrives here, passes or leaves, from or to a network.

    Networks are written with their prefix, at most 16; of IPv6 the first 32 bits are compared, so
    that the caller has to look again.
    """
    heads = {version: [_head(net) for net in networks if (":" in net) == (version == 6)]
             for version in (4, 6)}  # fmt: skip
    return bpf.assemble(
        [
            *_ARRIVES_OR_LEAVES,
            *_one_of((_TCP_NUMBER, _UDP_NUMBER), "ends6"),
            Line(bpf.LOAD_BYTE, 6, label="ends6"),
            *_of_heads(heads[6], (8, 24)),
            Line(bpf.JUMP_ANY, 0, true="leave", false="leave"),
            Line(bpf.LOAD_HALF, 6, label="v4"),
            Line(bpf.JUMP_ANY, 0x1FFF, true="leave"),
            Line(bpf.LOAD_BYTE, 9),
            *_one_of((_TCP_NUMBER, _UDP_NUMBER), "ends4"),
            Line(bpf.LOAD_BYTE, 9, label="ends4"),
            *_of_heads(heads[4], (12, 16)),
            Line(bpf.RETURN, 0, label="leave"),
            Line(bpf.RETURN, SNAP, label="take"),
        ]
    )


def _head(network: str) -> tuple[int, int]:
    """Return the first 32 bits of a network, and which of them count."""
    address, _, size = network.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    mask = (1 << 32) - (1 << (32 - min(int(size), 32)))
    return int.from_bytes(socket.inet_pton(family, address)[:4], "big") & mask, mask


def _of_heads(heads: Sequence[tuple[int, int]], offsets: Sequence[int]) -> list[Line]:
    """Return the lines that take what has one of these heads at one of these offsets."""
    return [
        line
        for head, mask in heads
        for offset in offsets
        for line in (
            Line(bpf.LOAD_WORD, offset),
            Line(bpf.AND, mask),
            Line(bpf.JUMP_EQUAL, head, true="take"),
        )
    ]


def _last_word(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return int.from_bytes(socket.inet_pton(family, address)[-4:], "big")


def way_of(packet: bytes) -> Optional[bytes]:
    """Return addresses and ports of a TCP or UDP packet; None where they are cut short."""
    first = packet[0] if packet else 0
    if first >> 4 == 4:
        start, ends = 4 * (first & 0xF), packet[12:20]
    elif first >> 4 == 6:
        start, ends = 40, packet[8:40]
    else:
        return None
    return None if len(packet) < start + 4 else ends + packet[start : start + 4]


def segment_of(packet: bytes) -> Optional[Segment]:
    """Return what a packet of TCP says; None where its headers are cut short."""
    first = packet[0] if packet else 0
    if first >> 4 == 4 and len(packet) >= 20:
        start, ends = 4 * (first & 0xF), packet[12:20]
        total = int.from_bytes(packet[2:4], "big")
    elif first >> 4 == 6:
        start, ends = 40, packet[8:40]
        total = 40 + int.from_bytes(packet[4:6], "big")
    else:
        return None
    if len(packet) < start + 20:
        return None
    sequence, acknowledges, offset, flags, window = _TCP.unpack_from(packet, start)
    length = max(0, total - start - 4 * (offset >> 4))
    way = ends + packet[start : start + 4]
    return Segment(way, sequence, acknowledges, flags, window, length)


def reversed_way(way: bytes) -> bytes:
    """Return the opposite direction."""
    size = len(way) // 2 - 2
    return way[size : 2 * size] + way[:size] + way[-2:] + way[-4:-2]


def spell(way: bytes) -> Tuple:
    """Return a segment's ``way`` as addresses and ports."""
    size = len(way) // 2 - 2
    family = socket.AF_INET6 if size == 16 else socket.AF_INET
    source, destination = (
        socket.inet_ntop(family, end) for end in (way[:size], way[size : 2 * size])
    )
    source_port, destination_port = _PORTS.unpack(way[-4:])
    return Tuple(source, source_port, destination, destination_port)


def written(way: Tuple) -> bytes:
    """Return addresses and ports as they stand in a packet: what :func:`spell` takes."""
    family = socket.AF_INET6 if ":" in way.source else socket.AF_INET
    ends = b"".join(socket.inet_pton(family, end) for end in (way.source, way.destination))
    return ends + _PORTS.pack(way.source_port, way.destination_port)
