"""TCP connections of which conntrack has seen one direction only, while they go on.

A client that got its SYN-ACK by another way sends ACKs; conntrack, still in SYN_SENT, calls them
INVALID (tcp_conntracks[] in net/netfilter/nf_conntrack_proto_tcp.c, "ack" in sSS). Where INVALID
is dropped, such a connection hangs. Entries without a reply are common and harmless (a dead
server): the proof is an ACK that arrives for one, heard on a packet socket, while the entry stays
without a reply.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from remedies.errors import Unreadable
from remedies.facts import Asking, Unwatched, Watch, sysctl
from remedies.facts.ring_watch import RingWatch
from remedies.netlink import conntrack
from remedies.netlink.conntrack_entry import IPS_SEEN_REPLY, Entry, flow_of
from remedies.netlink.flow import Flow, Tuple
from remedies.netlink.socket import NETLINK_NETFILTER, Netlink
from remedies.tap.ring import Packet
from remedies.values import dataclass

LIMIT = 32
"""Connections that are listened to: each costs the kernel an instruction a packet."""
_BLOCKS = 2
_AT_ONCE = 256
_SNAP = 64

# Opcodes of include/uapi/linux/bpf_common.h, absolute and behind the index.
_BYTE, _HALF, _BYTE_X, _HALF_X = 0x30, 0x28, 0x50, 0x48
_HEADER_LENGTH, _INDEX, _AND = 0xB1, 0x01, 0x54
_JUMP, _EQUAL, _ANY, _RETURN = 0x05, 0x15, 0x45, 0x06
_ACK_RST_SYN, _ACK = 0x16, 0x10


@dataclass(frozen=True)
class Oneway:
    """Connections that go on although conntrack has seen one direction of them only."""

    suspects: int = 0
    """TCP entries without a reply; with :data:`LIMIT` there are more."""
    proven: tuple[Flow, ...] = ()
    """Those for which an ACK came while the entry stayed without a reply."""
    listened: float = 0.0
    """Seconds; 0: nobody listened."""


def program(ports: tuple[int, ...]) -> bytes:
    """Return a classic BPF program: TCP with ACK, without SYN and RST, from one of ``ports``.

    Offsets count from the network header. Later fragments and packets with IPv6 extension
    headers are left out.
    """
    end = 17 + len(ports)  # of "leave"; "take" stands behind it

    def jump(at: int, true: int, false: int) -> tuple[int, int]:
        return true - at - 1, false - at - 1

    lines = [
        (_BYTE, 0, 0, 0),
        (_AND, 0, 0, 0xF0),
        (_EQUAL, *jump(2, 6, 3), 0x40),
        (_EQUAL, *jump(3, 4, end), 0x60),
        (_BYTE, 0, 0, 6),
        (_EQUAL, *jump(5, 12, end), socket.IPPROTO_TCP),
        (_BYTE, 0, 0, 9),
        (_EQUAL, *jump(7, 8, end), socket.IPPROTO_TCP),
        (_HALF, 0, 0, 6),
        (_ANY, *jump(9, end, 10), 0x1FFF),
        (_HEADER_LENGTH, 0, 0, 0),
        (_JUMP, 0, 0, 1),
        (_INDEX, 0, 0, 40),
        (_BYTE_X, 0, 0, 13),
        (_AND, 0, 0, _ACK_RST_SYN),
        (_EQUAL, *jump(15, 16, end), _ACK),
        (_HALF_X, 0, 0, 0),
        *((_EQUAL, *jump(17 + n, end + 1, 18 + n), port) for n, port in enumerate(ports)),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, _SNAP),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def way_of(packet: bytes) -> Tuple:
    """Return the direction of a TCP packet; raise Unreadable where it is cut off."""
    v4 = packet[:1] and packet[0] >> 4 == 4
    family, size, start = (socket.AF_INET, 4, 12) if v4 else (socket.AF_INET6, 16, 8)
    header = 4 * (packet[0] & 0xF) if v4 else 40
    if len(packet) < max(header + 4, start + 2 * size):
        raise Unreadable(f"a TCP packet of {len(packet)} bytes")
    ends = (packet[at : at + size] for at in (start, start + size))
    source, destination = (socket.inet_ntop(family, end) for end in ends)
    source_port, destination_port = struct.unpack_from(">HH", packet, header)
    return Tuple(source, source_port, destination, destination_port)


class _AckListener(RingWatch):
    """Listens for the suspects' ACKs, and asks conntrack again at the end."""

    def __init__(self, asking: Asking, suspects: list[Entry]) -> None:
        self._asking = asking
        self._suspects = {entry.original: entry for entry in suspects}
        self._heard: set[Tuple] = set()
        ports = tuple(sorted({way.source_port for way in self._suspects}))
        super().__init__(program(ports), _BLOCKS, _AT_ONCE)

    def _take(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            try:
                self._heard.add(way_of(packet.content))
            except Unreadable:
                continue  # cut off: another packet of the connection will tell

    def finish(self) -> Oneway:
        self._rest()
        heard = [entry for way, entry in self._suspects.items() if way in self._heard]
        return Oneway(
            suspects=len(self._suspects),
            proven=tuple(flow_of(entry) for entry in heard if _still(self._asking, entry)),
            listened=self._asking.window,
        )


def _unreplied(asking: Asking) -> list[Entry]:
    """Return the first TCP entries without a reply; none where nothing is tracked."""
    try:
        if sysctl.value("net.netfilter.nf_conntrack_count") == "0":
            return []
    except OSError:
        return []
    try:
        with Netlink(NETLINK_NETFILTER, asking.deadline()) as client:
            found = conntrack.flows(client, "tcp", status=0, mask=IPS_SEEN_REPLY)
            return [entry for entry, _ in zip(found, range(LIMIT))]
    except OSError as error:
        raise conntrack.not_permitted(error) from error


def _still(asking: Asking, entry: Entry) -> bool:
    """Tell whether the entry is there and has seen no reply: the ACK was no handshake's third."""
    try:
        with Netlink(NETLINK_NETFILTER, asking.deadline()) as client:
            now = conntrack.flow_by_tuple(client, "tcp", entry.original)
    except OSError as error:
        raise conntrack.not_permitted(error) from error
    return now is not None and not now.status & IPS_SEEN_REPLY


def watch(asking: Asking) -> Watch[Oneway]:
    """Begin to listen, if there is anything to listen for; raise Unreadable."""
    suspects = _unreplied(asking)
    if suspects and asking.window > 0:
        return _AckListener(asking, suspects)
    return Unwatched(Oneway(suspects=len(suspects)))
