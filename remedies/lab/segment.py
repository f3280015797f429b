"""Raw TCP segments: forging one, and hearing where a connection stands.

Layouts: RFC 9293 section 3.1 (TCP), RFC 791 (IPv4), RFC 8200 (IPv6 and its pseudo header).
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from remedies.lab.world import World

FIN = 0x01
SYN = 0x02
RST = 0x04
PUSH = 0x08
ACK = 0x10

_ETH_P_ALL = 0x0003  # include/uapi/linux/if_ether.h; only this one hears outgoing packets too
_ETH_P_IP = 0x0800
_ETH_P_IPV6 = 0x86DD
_PACKET_OUTGOING = 4  # include/uapi/linux/if_packet.h
_MODULUS = 1 << 32

Endpoint = tuple[str, int]
"""Address and port."""


@dataclass(frozen=True)
class Position:
    """Where one end of a connection stands: what it sends next, and what it expects next."""

    sequence: int
    acknowledge: int


def checksum(data: bytes) -> int:
    """Return the internet checksum of ``data`` (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def forge(
    source: Endpoint,
    destination: Endpoint,
    position: Position,
    payload: bytes,
    *,
    flags: int = ACK | PUSH,
    options: bytes = b"",
) -> bytes:
    """Return a TCP segment (no IP header) with a right checksum; ``options`` are whole words."""
    family = socket.AF_INET6 if ":" in source[0] else socket.AF_INET
    pseudo = socket.inet_pton(family, source[0]) + socket.inet_pton(family, destination[0])
    length = 20 + len(options) + len(payload)
    if family == socket.AF_INET6:
        pseudo += struct.pack("!I3xB", length, socket.IPPROTO_TCP)
    else:
        pseudo += struct.pack("!xBH", socket.IPPROTO_TCP, length)

    def header(sum_: int) -> bytes:
        return struct.pack(
            "!HHIIBBHHH",
            source[1],
            destination[1],
            position.sequence % _MODULUS,
            position.acknowledge % _MODULUS,
            (20 + len(options)) << 2,
            flags,
            512,
            sum_,
            0,
        )

    rest = options + payload
    return header(checksum(pseudo + header(0) + rest)) + rest


@dataclass(frozen=True)
class CraftedSegment:
    """What of a TCP segment matters here."""

    source_port: int
    destination_port: int
    flags: int
    after: Position
    """Where its sender stands once it is sent."""


def parse(packet: bytes) -> CraftedSegment | None:
    """Return the TCP segment of an IP packet; None for anything else.

    IPv6 extension headers are not followed: nothing in the lab sends any.
    """
    if packet[0] >> 4 == 4:
        offset, protocol = (packet[0] & 15) * 4, packet[9]
        end = struct.unpack_from("!H", packet, 2)[0]
    else:
        offset, protocol = 40, packet[6]
        end = offset + struct.unpack_from("!H", packet, 4)[0]
    if protocol != socket.IPPROTO_TCP:
        return None
    source, destination, sequence, acknowledge, data, flags = struct.unpack_from(
        "!HHIIBB", packet, offset
    )
    length = end - offset - (data >> 4) * 4
    counts = bool(flags & (SYN | FIN))  # each takes one sequence number
    after = Position((sequence + length + counts) % _MODULUS, acknowledge)
    return CraftedSegment(source, destination, flags, after)


class Ear:
    """Hears the TCP segments of one port on a namespace's ``eth0``, both ways."""

    def __init__(self, world: World, role: str, port: int) -> None:
        """Begin to listen; from here on nothing is missed (within the socket's buffer)."""
        self._socket = world.socket(role, socket.AF_PACKET, socket.SOCK_DGRAM)
        self._socket.bind(("eth0", _ETH_P_ALL))
        self._socket.setblocking(False)
        self._port = port
        self.resets = 0
        """Resets for the port that came from outside."""
        self.position = Position(0, 0)
        """Where the port's own end stood at its last segment."""

    def __enter__(self) -> Ear:
        """Return the ear."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self._socket.close()

    def listen(self) -> None:
        """Take in what has been heard so far; often enough, for the buffer holds 200 KiB."""
        while True:
            try:
                packet, origin = self._socket.recvfrom(65536)
            except BlockingIOError:
                return
            if origin[1] in (_ETH_P_IP, _ETH_P_IPV6):
                self._take(packet, outgoing=origin[2] == _PACKET_OUTGOING)

    def _take(self, packet: bytes, *, outgoing: bool) -> None:
        segment = parse(packet)
        if segment is None:
            return
        if not outgoing and segment.destination_port == self._port and segment.flags & RST:
            self.resets += 1
        elif outgoing and segment.source_port == self._port and not segment.flags & RST:
            self.position = segment.after
