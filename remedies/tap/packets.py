"""What the filter let through: a packet's key (bytes that are equal for repeats), and its meaning.

Pure. The key is what a flood is counted by, so it is cut out of the packet without looking at
more than it needs; only the first packet of a key is spelled out. Layouts: RFC 791, RFC 8200,
RFC 9293, RFC 792 and RFC 4443 (a port unreachable quotes the datagram that was refused).
"""

from __future__ import annotations

import socket
import struct
from typing import Optional

from remedies.netlink.flow import Tuple
from remedies.values import NamedTuple

RESET, SYN, REFUSED, REFUSAL = "reset", "syn", "refused", "refusal"
"""A reset sent; a SYN sent; a datagram of ours refused by its receiver; a refusal sent."""

_EVENTS = dict(zip(b"RQrqSFA", (RESET, RESET, RESET, RESET, SYN, REFUSED, REFUSAL)))
_UNSUMMED = b"rq"
_ACKNOWLEDGING = b"Qq"
_PROTOCOLS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}


class Heard(NamedTuple):
    """One packet."""

    event: str
    """RESET, SYN, REFUSED or REFUSAL."""
    ttl: int
    """Time to live or hop limit."""
    source: str
    destination: str
    """Of the packet itself."""
    protocol: str
    """``tcp`` or ``udp``: of the packet, or of the datagram that was refused."""
    way: Tuple
    """Direction of the packet, or of the datagram that was refused."""
    summed: bool = True
    """A reset's checksum was in it when it was heard: see :meth:`tap.origin.Origin.answers`."""
    acknowledges: bool = False
    """A reset with ACK: it answers a SYN or comes from a socket, see :func:`key`."""


def key(packet: bytes, outgoing: bool, summed: bool = True) -> Optional[bytes]:
    """Return event, TTL, protocol, addresses and ports as bytes; None where they are cut short.

    ``packet`` begins with its IP header; ``summed``: its checksum is in it. A SYN's sequence number
    is part of its key: the same number again is a retry. The first byte is the packet's class, for
    which the tally has an allowance: a reset with ACK answers a SYN, or comes from a socket; one
    without ACK answers a segment in the middle of a connection (RFC 9293, 3.10.7.1), so that a
    port scan cannot hide it.
    """
    first = packet[0] if packet else 0
    if first >> 4 == 4:
        start, ttl, protocol, ends = 4 * (first & 0xF), packet[8:9], packet[9:10], packet[12:20]
    elif first >> 4 == 6:
        start, ttl, protocol, ends = 40, packet[7:8], packet[6:7], packet[8:40]
    else:
        return None
    if start < 20 or len(packet) < start:
        return None
    if protocol == b"\6":
        if len(packet) < start + 14:
            return None
        flags = packet[start + 13]
        if flags & 0x04:
            class_ = b"Q" if flags & 0x10 else b"R"
            class_ = class_ if summed else class_.lower()
            return class_ + ttl + protocol + ends + packet[start : start + 4]
        return b"S" + ttl + protocol + ends + packet[start : start + 8]
    quoted = packet[start + 8 :]  # behind the ICMP header
    first = quoted[0] if quoted else 0
    if first >> 4 == 4:
        start, protocol, refused = 4 * (first & 0xF), quoted[9:10], quoted[12:20]
    elif first >> 4 == 6:
        start, protocol, refused = 40, quoted[6:7], quoted[8:40]
    else:
        return None
    ports = quoted[start : start + 4]
    if (
        start < 20
        or len(refused) != len(ends)
        or len(ports) < 4
        or protocol not in (b"\6", b"\x11")
    ):
        return None
    return (b"A" if outgoing else b"F") + ttl + protocol + ends + refused + ports


def event_of(made: bytes) -> str:
    """Return the event of a key of :func:`key`."""
    return _EVENTS[made[0]]


def spell(made: bytes) -> Heard:
    """Return what a key of :func:`key` stands for."""
    event, size = event_of(made), 16 if len(made) > 31 else 4
    family = socket.AF_INET6 if size == 16 else socket.AF_INET
    ends = [
        socket.inet_ntop(family, made[at : at + size])
        for at in range(3, 3 + size * (4 if event in (REFUSED, REFUSAL) else 2), size)
    ]
    ports = struct.unpack_from(">HH", made, 3 + size * len(ends))
    way = Tuple(ends[-2], ports[0], ends[-1], ports[1])
    summed = made[0] not in _UNSUMMED
    acks = made[0] in _ACKNOWLEDGING
    return Heard(event, made[1], ends[0], ends[1], _PROTOCOLS[made[2]], way, summed, acks)
