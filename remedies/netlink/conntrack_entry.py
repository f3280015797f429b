"""What ctnetlink says of one entry of the flow table.

Messages and attributes are those of include/uapi/linux/netfilter/nfnetlink_conntrack.h, status
bits those of nf_conntrack_common.h beside it, TCP's states those of nf_conntrack_tcp.h.
"""

from __future__ import annotations

import socket
import struct
from typing import Optional

from remedies.netlink.flow import Flow, Tuple
from remedies.netlink.socket import attributes
from remedies.values import NamedTuple

IPS_EXPECTED = 1 << 0
IPS_SEEN_REPLY = 1 << 1
IPS_ASSURED = 1 << 2
IPS_SRC_NAT = 1 << 4
IPS_DST_NAT = 1 << 5
IPS_OFFLOADED = 1 << 14 | 1 << 15
"""IPS_OFFLOAD and IPS_HW_OFFLOAD: a flowtable or a device forwards its packets past every rule."""
TCP_SYN_SENT = 1
"""TCP_CONNTRACK_SYN_SENT: a SYN was seen, and nothing since (nf_conntrack_tcp.h)."""

PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_NAMES = {int(number): name for name, number in PROTOCOLS.items()}

TUPLE_ORIG, TUPLE_REPLY, STATUS, PROTOINFO, TIMEOUT, ID, ZONE = 1, 2, 3, 4, 7, 12, 18
TUPLE_IP, TUPLE_PROTO = 1, 2
IP_V4_SRC, IP_V4_DST, IP_V6_SRC, IP_V6_DST = 1, 2, 3, 4
PROTO_NUM, PROTO_SRC_PORT, PROTO_DST_PORT = 1, 2, 3

PROTO_HEADER = struct.pack("=HH", 5, PROTO_NUM)
# CTA_PROTOINFO_TCP behind its length, with CTA_PROTOINFO_TCP_STATE as its first attribute.
TCP_STATE_HEADER = struct.pack("=HHH", 0x8001, 5, 1)
SYN_SENT = TCP_STATE_HEADER + bytes([TCP_SYN_SENT])
_PORT_HEADER = struct.pack("=HH", 6, PROTO_DST_PORT)


class _TupleLayout(NamedTuple):
    """Offsets into a message, counted from its struct nfgenmsg."""

    destination: int
    end: int
    protocol: int
    port: int
    """Of the destination port's attribute header."""


# Where ctnetlink_fill_info() puts the original tuple of an IPv4 or IPv6 entry of a protocol with
# ports: what the fast path needs. An entry that does not look so is parsed attribute by attribute.
LAYOUTS = {
    int(socket.AF_INET): _TupleLayout(24, 28, 36, 48),
    int(socket.AF_INET6): _TupleLayout(36, 52, 60, 72),
}


class Entry(NamedTuple):
    """One tracked connection."""

    protocol: str
    original: Tuple
    reply: Tuple
    status: int
    """IPS_* bits."""
    left: Optional[int] = None
    """Seconds until it is forgotten, unless a packet comes; None: not said."""
    zone: int = 0
    state: int = 0
    """Of TCP: ``enum tcp_conntrack``."""
    number: int = 0
    """The kernel's id of the entry, which another one of the same tuple does not have."""

    @property
    def opening(self) -> bool:
        """Tell whether it is a TCP connection of which nothing but SYNs was seen."""
        return self.protocol == "tcp" and self.state == TCP_SYN_SENT


def family_of(address: str) -> int:
    """Return the address family of an address as text."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def flow_of(entry: Entry) -> Flow:
    """Return an entry as the value that facts hold."""
    return Flow(
        protocol=entry.protocol,
        original=entry.original,
        reply=entry.reply,
        seen_reply=bool(entry.status & IPS_SEEN_REPLY),
        nat=bool(entry.status & (IPS_SRC_NAT | IPS_DST_NAT)),
        assured=bool(entry.status & IPS_ASSURED),
        zone=entry.zone,
        number=entry.number,
        fixed=bool(entry.status & (IPS_EXPECTED | IPS_OFFLOADED)),
    )


def _way(buffer: bytes) -> tuple[int, Tuple]:
    """Return protocol number and direction of a CTA_TUPLE_*'s content."""
    protocol, ports, ends = 0, [0, 0], ["", ""]
    for kind, value in attributes(buffer):
        if kind == TUPLE_IP:
            for end, address in attributes(value):
                if len(address) == 4 and end in (IP_V4_SRC, IP_V4_DST):
                    ends[end - IP_V4_SRC] = socket.inet_ntop(socket.AF_INET, address)
                elif len(address) == 16 and end in (IP_V6_SRC, IP_V6_DST):
                    ends[end - IP_V6_SRC] = socket.inet_ntop(socket.AF_INET6, address)
        elif kind == TUPLE_PROTO:
            for part, number in attributes(value):
                if part == PROTO_NUM and number:
                    protocol = number[0]
                elif part in (PROTO_SRC_PORT, PROTO_DST_PORT) and len(number) == 2:
                    ports[part - PROTO_SRC_PORT] = int.from_bytes(number, "big")
    return protocol, Tuple(ends[0], ports[0], ends[1], ports[1])


def entry(payload: bytes) -> Entry | None:
    """Return the entry that a message describes, None where it is neither TCP nor UDP.

    Raises Unreadable where the message is malformed.
    """
    protocol, status, zone, state, number = 0, 0, 0, 0, 0
    left: Optional[int] = None
    original = reply = Tuple("", 0, "", 0)
    for kind, value in attributes(payload, 4):
        if kind == TUPLE_ORIG:
            protocol, original = _way(value)
        elif kind == TUPLE_REPLY:
            _, reply = _way(value)
        elif kind == STATUS and len(value) == 4:
            status = int.from_bytes(value, "big")
        elif kind == TIMEOUT and len(value) == 4:
            left = int.from_bytes(value, "big")
        elif kind == ZONE and len(value) == 2:
            zone = int.from_bytes(value, "big")
        elif kind == ID and len(value) == 4:
            number = int.from_bytes(value, "big")
        elif kind == PROTOINFO:
            state = _state(value)
    name = _NAMES.get(protocol)
    if name is None:
        return None
    return Entry(name, original, reply, status, left, zone, state, number)


def _state(buffer: bytes) -> int:
    """Return CTA_PROTOINFO_TCP_STATE of a CTA_PROTOINFO's content, 0 where it has none."""
    for kind, value in attributes(buffer):
        if kind == 1:  # CTA_PROTOINFO_TCP
            return next((data[0] for part, data in attributes(value) if part == 1 and data), 0)
    return 0


def protocol_of(payload: bytes) -> int | None:
    """Return the protocol number of an entry that looks as they do, None for any other."""
    at = LAYOUTS.get(payload[0]) if payload else None
    if at is None or payload[at.protocol - 4 : at.protocol] != PROTO_HEADER:
        return None
    return payload[at.protocol] if len(payload) > at.protocol else None


def service(payload: bytes) -> bytes | None:
    """Return destination address and port of a UDP entry as bytes, None for another protocol."""
    at = LAYOUTS.get(payload[0]) if payload else None
    if (
        at is not None
        and payload[at.protocol - 4 : at.protocol] == PROTO_HEADER
        and payload[at.port : at.port + 4] == _PORT_HEADER
        and len(payload) >= at.port + 6
    ):
        if payload[at.protocol] != socket.IPPROTO_UDP:
            return None
        return payload[at.destination : at.end] + payload[at.port + 4 : at.port + 6]
    found = entry(payload)
    if found is None or found.protocol != "udp" or not found.original.destination:
        return None
    way = found.original
    packed = socket.inet_pton(family_of(way.destination), way.destination)
    return packed + way.destination_port.to_bytes(2, "big")
