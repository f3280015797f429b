"""The classic BPF program of the tap: what is not wanted never leaves the kernel.

It lets through outgoing TCP resets; ICMP and ICMPv6 *port unreachable* (RFC 792, RFC 4443), sent
or arriving; and outgoing first SYNs where they are asked for. Later fragments and packets with
IPv6 extension headers are left out. Opcodes: include/uapi/linux/bpf_common.h; the kernel's
ancillary words: include/uapi/linux/filter.h.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from remedies.values import NamedTuple

SNAP = 192
"""Bytes of a packet that are kept: two IPv4 headers with options, or two of IPv6, and the ports."""

LOAD_BYTE, LOAD_HALF, LOAD_WORD = 0x30, 0x28, 0x20  # absolute
LOAD_BYTE_X, LOAD_HALF_X = 0x50, 0x48  # behind the index
HEADER_LENGTH = 0xB1  # index = 4 * (byte & 0xf)
STORE, LOAD_MEMORY = 0x02, 0x60
AND, JUMP_EQUAL, JUMP_ANY, RETURN = 0x54, 0x15, 0x45, 0x06

PROTOCOL, PACKET_TYPE, LINK = 0xFFFFF000, 0xFFFFF004, 0xFFFFF008  # SKF_AD_OFF + SKF_AD_*
_LOOPBACK = 1  # its index in every namespace: LOOPBACK_IFINDEX, include/net/flow.h
_HOST, _OUTGOING = 0, 4  # PACKET_HOST, PACKET_OUTGOING, include/uapi/linux/if_packet.h
_RST, _SYN_ACK_RST, _SYN = 0x04, 0x16, 0x02
_UNREACHABLE_V4, _UNREACHABLE_V6 = 0x0303, 0x0104  # type and code


class Line(NamedTuple):
    """One instruction; jumps name the label they go to, or go to the next line."""

    code: int
    operand: int
    label: str = ""
    true: str = ""
    false: str = ""


def _lines(syn: bool) -> list[Line]:
    """Return the program. Offsets count from the network header (the socket is SOCK_DGRAM)."""
    other = "syn" if syn else "leave"
    return [
        Line(LOAD_BYTE, PACKET_TYPE),
        Line(STORE, 0),
        Line(JUMP_EQUAL, _OUTGOING, true="protocol"),
        Line(JUMP_EQUAL, _HOST, false="leave"),
        Line(LOAD_WORD, LINK),  # what arrives on the loopback has been heard as it left
        Line(JUMP_EQUAL, _LOOPBACK, true="leave"),
        Line(LOAD_HALF, PROTOCOL, label="protocol"),
        Line(JUMP_EQUAL, 0x0800, true="v4"),
        Line(JUMP_EQUAL, 0x86DD, false="leave"),
        Line(LOAD_BYTE, 6),  # next header
        Line(JUMP_EQUAL, 6, true="tcp6"),
        Line(JUMP_EQUAL, 58, false="leave"),
        Line(LOAD_HALF, 40),
        Line(JUMP_EQUAL, _UNREACHABLE_V6, true="take", false="leave"),
        Line(LOAD_MEMORY, 0, label="tcp6"),
        Line(JUMP_EQUAL, _OUTGOING, false="leave"),
        Line(LOAD_BYTE, 53),
        Line(JUMP_ANY, _RST, true="take", false=other),
        Line(LOAD_HALF, 6, label="v4"),
        Line(JUMP_ANY, 0x1FFF, true="leave"),  # a later fragment
        Line(HEADER_LENGTH, 0),
        Line(LOAD_BYTE, 9),
        Line(JUMP_EQUAL, 6, true="tcp4"),
        Line(JUMP_EQUAL, 1, false="leave"),
        Line(LOAD_HALF_X, 0),
        Line(JUMP_EQUAL, _UNREACHABLE_V4, true="take", false="leave"),
        Line(LOAD_MEMORY, 0, label="tcp4"),
        Line(JUMP_EQUAL, _OUTGOING, false="leave"),
        Line(LOAD_BYTE_X, 13),
        Line(JUMP_ANY, _RST, true="take", false=other),
        *(
            [
                Line(AND, _SYN_ACK_RST, label="syn"),
                Line(JUMP_EQUAL, _SYN, true="take", false="leave"),
            ]
            if syn
            else []
        ),
        Line(RETURN, 0, label="leave"),
        Line(RETURN, SNAP, label="take"),
    ]


def program(*, syn: bool = False) -> bytes:
    """Return the instructions as an array of struct sock_filter; ``syn``: first SYNs, too."""
    return assemble(_lines(syn))


def assemble(lines: Sequence[Line]) -> bytes:
    """Return instructions as an array of struct sock_filter, their labels turned into jumps."""
    places = {line.label: number for number, line in enumerate(lines) if line.label}
    return b"".join(
        struct.pack(
            "=HBBI",
            line.code,
            places[line.true] - number - 1 if line.true else 0,
            places[line.false] - number - 1 if line.false else 0,
            line.operand,
        )
        for number, line in enumerate(lines)
    )
