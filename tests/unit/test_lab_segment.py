"""Forged TCP segments are what a kernel would send, and are read back as such."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies.lab.segment import ACK, FIN, PUSH, Position, checksum, forge, parse

PORTS = st.integers(1, 65535)
NUMBERS = st.integers(0, 2**32 - 1)
PAIRS = [("10.21.17.1", "10.21.17.99"), ("fd10:21:17::1", "fd10:21:17::99")]


def pseudo(source: str, destination: str, length: int) -> bytes:
    """RFC 9293 section 3.1 and RFC 8200 section 8.1."""
    if ":" in source:
        ends = [socket.inet_pton(socket.AF_INET6, end) for end in (source, destination)]
        return b"".join(ends) + struct.pack("!I3xB", length, 6)
    ends = [socket.inet_pton(socket.AF_INET, end) for end in (source, destination)]
    return b"".join(ends) + struct.pack("!xBH", 6, length)


def test_checksum_of_the_example_in_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF


@pytest.mark.parametrize(("source", "destination"), PAIRS)
@given(ports=st.tuples(PORTS, PORTS), numbers=st.tuples(NUMBERS, NUMBERS), data=st.binary())
def test_forged_segment_sums_to_zero(
    source: str, destination: str, ports: tuple[int, int], numbers: tuple[int, int], data: bytes
) -> None:
    segment = forge((source, ports[0]), (destination, ports[1]), Position(*numbers), data)
    assert checksum(pseudo(source, destination, len(segment)) + segment) == 0


@pytest.mark.parametrize(("source", "destination"), PAIRS)
@given(ports=st.tuples(PORTS, PORTS), numbers=st.tuples(NUMBERS, NUMBERS), data=st.binary())
def test_forged_segment_reads_back(
    source: str, destination: str, ports: tuple[int, int], numbers: tuple[int, int], data: bytes
) -> None:
    segment = forge((source, ports[0]), (destination, ports[1]), Position(*numbers), data)
    read = parse(ip_header(source, len(segment), socket.IPPROTO_TCP) + segment)
    assert read is not None
    assert (read.source_port, read.destination_port) == ports
    assert read.flags == ACK | PUSH
    assert read.after == Position((numbers[0] + len(data)) % 2**32, numbers[1])


def ip_header(source: str, length: int, protocol: int) -> bytes:
    """Return an IP header with the fields that are read, padding in the rest."""
    if ":" in source:
        return struct.pack("!B3xHBB32x", 6 << 4, length, protocol, 64)
    return struct.pack("!BxH4xBB10x", 4 << 4 | 5, 20 + length, 64, protocol)


def test_end_of_stream_takes_one_sequence_number() -> None:
    header = bytearray(forge(("10.0.0.1", 1), ("10.0.0.2", 2), Position(7, 9), b""))
    header[13] = ACK | FIN
    read = parse(ip_header("10.0.0.1", 20, socket.IPPROTO_TCP) + bytes(header))
    assert read is not None
    assert read.after == Position(8, 9)


def test_other_protocols_are_no_segment() -> None:
    assert parse(ip_header("10.0.0.1", 8, socket.IPPROTO_UDP) + bytes(20)) is None
