"""Dropped packets: what the kept octets say, and what the kernel's reasons mean."""

from __future__ import annotations

import socket
import struct

import pytest

from remedies.netlink.flow import Tuple
from remedies.tap.drops import DroppedPacket, decode
from remedies.trace.drop_reasons import REASONS, words

V4, V6 = 0x0800, 0x86DD


def v4(protocol: int, body: bytes, fragment: int = 0, options: bytes = b"") -> bytes:
    """Return the 56 octets that are kept of an IPv4 packet."""
    head = struct.pack(">BBHHHBBH", 0x45 + len(options) // 4, 0, 0, 0, fragment, 0, protocol, 0)
    ends = socket.inet_aton("172.17.0.2") + socket.inet_aton("10.21.17.1")
    return (head + ends + options + body).ljust(56, b"\0")[:56]


def v6(protocol: int, body: bytes) -> bytes:
    """Return the 56 octets that are kept of an IPv6 packet."""
    ends = socket.inet_pton(socket.AF_INET6, "fd17::2") + socket.inet_pton(
        socket.AF_INET6, "fd10::1"
    )
    return (struct.pack(">IHBB", 6 << 28, 0, protocol, 0) + ends + body).ljust(56, b"\0")[:56]


PORTS = struct.pack(">HH", 5000, 443)
TCP = PORTS + bytes(8) + bytes([5 << 4, 0x12]) + bytes(2)
WAY = Tuple("172.17.0.2", 5000, "10.21.17.1", 443)
WAY6 = Tuple("fd17::2", 5000, "fd10::1", 443)
NO_PORTS = Tuple("172.17.0.2", 0, "10.21.17.1", 0)


@pytest.mark.parametrize(
    ("headers", "ethertype", "packet"),
    [
        (v4(6, TCP), V4, DroppedPacket("tcp", WAY, flags=0x12)),
        (v6(6, TCP), V6, DroppedPacket("tcp", WAY6, flags=0x12)),
        (v4(17, PORTS), V4, DroppedPacket("udp", WAY)),
        (v6(17, PORTS), V6, DroppedPacket("udp", WAY6)),
        (v4(17, PORTS, options=bytes(8)), V4, DroppedPacket("udp", WAY)),
        (v4(6, TCP, options=bytes(24)), V4, DroppedPacket("tcp", WAY)),
        (v4(17, PORTS, options=bytes(36)), V4, DroppedPacket("udp", NO_PORTS)),
        (v4(17, PORTS, fragment=185), V4, DroppedPacket("udp", NO_PORTS)),
        (v4(17, PORTS, fragment=0x2000), V4, DroppedPacket("udp", WAY)),
        (v4(1, b"\x03\x04"), V4, DroppedPacket("icmp", NO_PORTS, icmp=(3, 4))),
        (v4(112, PORTS), V4, DroppedPacket("112", NO_PORTS)),
        (v4(17, PORTS), 0x0806, DroppedPacket("ethertype 0x0806")),
        (v4(17, PORTS), V6, DroppedPacket("ethertype 0x86dd")),
        (bytes(56), 0, DroppedPacket("packet")),
    ],
)
def test_the_kept_octets_say_which_packet_it_was(
    headers: bytes, ethertype: int, packet: DroppedPacket
) -> None:
    assert decode(headers, ethertype) == packet


def test_a_reason_that_is_not_in_the_table_is_named() -> None:
    assert "QUITE_NEW" in words("QUITE_NEW", "tcp_v4_rcv", "10.21.17.1").means


def test_a_place_says_what_the_kernel_does_not() -> None:
    assert words("NOT_SPECIFIED", "neigh_invalidate", "10.21.17.1") == REASONS["NEIGH_FAILED"]
    assert words("NOT_SPECIFIED", "elsewhere", "10.21.17.1") == REASONS["NOT_SPECIFIED"]


@pytest.mark.parametrize(
    ("reason", "destination", "ordinary"),
    [
        ("NOT_SPECIFIED", "ff02::16", True),
        ("IP_INNOROUTES", "224.0.0.1", True),
        ("IP_INADDRERRORS", "255.255.255.255", True),
        ("IP_INADDRERRORS", "240.0.0.1", False),
        ("IP_INNOROUTES", "fd10::1", False),
        ("NETFILTER_DROP", "224.0.0.1", False),
        ("TCP_OLD_DATA", "10.21.17.1", True),
        ("NOT_SPECIFIED", "", False),
    ],
)
def test_a_packet_for_many_that_nobody_asked_for_is_ordinary(
    reason: str, destination: str, ordinary: bool
) -> None:
    assert words(reason, "ip_rcv", destination).ordinary is ordinary
