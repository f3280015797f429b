"""The program that counts dropped packets in the kernel, by the kernel's own reason for each.

It runs at the tracepoint skb:kfree_skb (net/core/skbuff.c, sk_skb_reason_drop()), whose arguments
are the packet, the place in the code, the reason (since Linux 5.17) and the receiving socket (since
6.10). What is no drop is left out. Reads of the packet go through
bpf_probe_read_kernel(): a field that holds something else at that moment reads as zero or wrong,
and breaks nothing.

The key is what repeats have in common, so that a flood of one conversation is one entry: of the
headers, identifiers, checksums, lengths, TCP's sequence numbers and the payload are left out.
"""

from __future__ import annotations

import socket
import struct

from remedies.bpf.code import (
    LOOKUP,
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R9,
    R10,
    READ_KERNEL,
    UPDATE,
    Code,
)
from remedies.bpf.types import KernelTypes
from remedies.values import dataclass

TRACEPOINT = "kfree_skb"
HEADERS = 56
"""Octets kept from the network header on: IPv6 and what of TCP's header has ports and flags; or
IPv4, ICMP, and the IPv4 header and ports that it quotes."""
KEY = struct.Struct(f"=QQIIHBx4x{HEADERS}s")
"""Namespace's cookie, place, reason, interface, ethertype (as sent), conntrack's state, headers."""
VALUE = struct.Struct("=Q")
NO_DROP = ("SKB_NOT_DROPPED_YET", "SKB_CONSUMED")
NO_REASON = "SKB_DROP_REASON_NOT_SPECIFIED"
_IP, _IPV6 = socket.htons(0x0800), socket.htons(0x86DD)
NO_ENTRY = 8
"""Conntrack has not looked at the packet or calls it INVALID; else enum ip_conntrack_info."""
LOW_BITS = 0x7FFFFFFF
_NEW_ONE = 1  # BPF_NOEXIST: another processor may have been first
_COOKIE, _PLACE, _REASON, _LINK, _TYPE, _STATE, _HEADERS = 0, 8, 16, 20, 24, 26, 32
_KEY = -KEY.size
_SCRATCH = _KEY - 8
_INDEX = _SCRATCH - 8


@dataclass(frozen=True)
class Offsets:
    """Where the running kernel keeps what the program reads, and the numbers it leaves out."""

    head: int
    tail: int
    """Where the octets end that lie together; the kernel keeps the rest of a packet elsewhere."""
    network_header: int
    protocol: int
    device: int
    conntrack: int
    socket: int
    link: int
    net_of_device: int
    net_of_socket: int
    cookie: int
    receiver: bool
    """The tracepoint has a fourth argument, the receiving socket."""
    no_drop: tuple[int, ...]
    no_reason: int
    """Left out where the packet has no IP header: messages between processes and the like."""


def offsets(types: KernelTypes) -> Offsets:
    """Look them up. Raises Unreadable where the kernel has no reasons (before Linux 5.17)."""
    reasons = types.numbers("skb_drop_reason")
    return Offsets(
        head=types.offset("sk_buff", "head"),
        tail=types.offset("sk_buff", "tail"),
        network_header=types.offset("sk_buff", "network_header"),
        protocol=types.offset("sk_buff", "protocol"),
        device=types.offset("sk_buff", "dev"),
        conntrack=types.offset("sk_buff", "_nfct"),
        socket=types.offset("sk_buff", "sk"),
        link=types.offset("net_device", "ifindex"),
        net_of_device=types.offset("net_device", "nd_net", "net"),
        net_of_socket=types.offset("sock", "__sk_common", "skc_net", "net"),
        cookie=types.offset("net", "net_cookie"),
        receiver=types.arguments(TRACEPOINT) > 3,
        no_drop=tuple(reasons[name] for name in NO_DROP if name in reasons),
        no_reason=reasons[NO_REASON],
    )


def program(at: Offsets, counts: int, total: int, only: int = 0) -> bytes:
    """Return the program; ``counts`` and ``total`` are the descriptors of its two maps.

    ``only``: the cookie of the namespace to count in. Its lowest 31 bits are compared.
    """
    code = Code()
    code.copy(R6, R1)
    code.load(8, R9, R6, 16)  # the reason
    for number in at.no_drop:
        code.jump_if(R9, "==", number, "leave")
    code.load(8, R7, R6, 0)  # the packet
    _begin(code)
    _read(code, _KEY + _TYPE, 2, R7, at.protocol)
    code.jump_if(R9, "!=", at.no_reason, "wanted")
    code.load(2, R8, R10, _KEY + _TYPE)
    code.jump_if(R8, "==", _IP, "wanted")
    code.jump_if(R8, "!=", _IPV6, "leave")
    code.label("wanted")
    _place(code, at)
    _namespace(code, at)
    if only:
        code.load(8, R8, R10, _KEY + _COOKIE)
        code.compute("and", R8, LOW_BITS)
        code.jump_if(R8, "!=", only & LOW_BITS, "leave")
    _packet(code, at)
    _same(code)
    _count(code, counts, total)
    code.label("leave")
    code.set(R0, 0)
    code.exit()
    return code.done()


def _read(code: Code, to: int, size: int, source: int, offset: int) -> None:
    """Read kernel memory to the stack; what cannot be read is zero there."""
    code.copy(R1, R10)
    code.compute("add", R1, to)
    code.set(R2, size)
    code.copy(R3, source)
    if offset:
        code.compute("add", R3, offset)
    code.call(READ_KERNEL)


def _pointer(code: Code, to: int, source: int, offset: int) -> None:
    """Give a register the pointer that is in kernel memory."""
    _read(code, _SCRATCH, 8, source, offset)
    code.load(8, to, R10, _SCRATCH)


def _begin(code: Code) -> None:
    """Set the key and the total's index to zero: the map compares every octet."""
    for offset in range(_INDEX, 0, 8):
        code.store_constant(8, R10, offset, 0)


def _place(code: Code, at: Offsets) -> None:
    code.load(8, R8, R6, 8)
    code.store(8, R10, _KEY + _PLACE, R8)
    code.store(4, R10, _KEY + _REASON, R9)
    code.store_constant(1, R10, _KEY + _STATE, NO_ENTRY)
    _pointer(code, R8, R7, at.conntrack)
    code.jump_if(R8, "==", 0, "no entry")
    code.compute("and", R8, 7)  # NFCT_INFOMASK, include/linux/skbuff.h
    code.store(1, R10, _KEY + _STATE, R8)
    code.label("no entry")


def _namespace(code: Code, at: Offsets) -> None:
    """Find the namespace: of the interface, of the packet's socket, of the receiving socket."""
    _pointer(code, R8, R7, at.device)
    code.jump_if(R8, "==", 0, "no interface")
    _read(code, _KEY + _LINK, 4, R8, at.link)
    _pointer(code, R8, R8, at.net_of_device)
    code.jump_if(R8, "!=", 0, "net")
    code.label("no interface")
    _pointer(code, R8, R7, at.socket)
    code.jump_if(R8, "!=", 0, "socket")
    if at.receiver:
        code.load(8, R8, R6, 24)
    code.jump_if(R8, "==", 0, "no net")
    code.label("socket")
    _pointer(code, R8, R8, at.net_of_socket)
    code.label("net")
    _read(code, _KEY + _COOKIE, 8, R8, at.cookie)
    code.label("no net")


def _packet(code: Code, at: Offsets) -> None:
    """Keep the headers, as far as they lie together: what comes after is another packet's."""
    _read(code, _SCRATCH, 2, R7, at.network_header)
    code.load(2, R9, R10, _SCRATCH)
    _read(code, _SCRATCH, 4, R7, at.tail)  # an offset, as on every machine of 64 bits
    code.load(4, R8, R10, _SCRATCH)
    code.subtract(R8, R9)
    code.jump_if(R8, ">", LOW_BITS, "no headers")  # less than nothing
    code.jump_if(R8, ">", HEADERS, "all headers")
    code.jump("some headers")
    code.label("all headers")
    code.set(R8, HEADERS)
    code.label("some headers")
    _pointer(code, R3, R7, at.head)
    code.add(R3, R9)
    code.copy(R1, R10)
    code.compute("add", R1, _KEY + _HEADERS)
    code.copy(R2, R8)
    code.call(READ_KERNEL)
    code.label("no headers")


def _same(code: Code) -> None:
    """Leave out of the headers what differs between packets of one conversation."""
    start = _KEY + _HEADERS
    code.load(1, R8, R10, start)
    code.jump_if(R8, "==", 0x45, "v4")  # IPv4 without options
    code.compute("right", R8, 4)
    code.jump_if(R8, "!=", 6, "done")
    code.store_constant(1, R10, start, 0x60)
    code.store_constant(1, R10, start + 1, 0)  # traffic class, flow label
    code.store_constant(2, R10, start + 2, 0)
    code.store_constant(2, R10, start + 4, 0)  # length
    code.store_constant(1, R10, start + 7, 0)  # hop limit
    code.load(1, R8, R10, start + 6)
    _transport(code, start + 40, 16, "6")
    code.jump("done")
    code.label("v4")
    code.store_constant(1, R10, start + 1, 0)
    code.store_constant(2, R10, start + 2, 0)  # length
    code.store_constant(2, R10, start + 4, 0)  # identifier
    code.store_constant(1, R10, start + 8, 0)  # time to live
    code.store_constant(2, R10, start + 10, 0)  # checksum
    code.load(1, R8, R10, start + 9)
    _transport(code, start + 20, 36, "4")
    code.label("done")


def _transport(code: Code, start: int, size: int, label: str) -> None:
    """Keep ports and flags of TCP, ports of UDP, all of ICMP but its sums; R8 is the protocol."""
    tcp, udp, other = (f"{name}{label}" for name in ("tcp", "udp", "other"))
    code.jump_if(R8, "==", 6, tcp)
    code.jump_if(R8, "==", 17, udp)
    code.store_constant(2, R10, start + 2, 0)
    code.jump(other)
    code.label(tcp)
    code.load(1, R8, R10, start + 13)
    _clear(code, start + 4, start + size)
    code.store(1, R10, start + 13, R8)
    code.jump(other)
    code.label(udp)
    _clear(code, start + 4, start + size)
    code.label(other)


def _clear(code: Code, start: int, end: int) -> None:
    for at in range(start, end, 4):
        code.store_constant(4, R10, at, 0)


def _count(code: Code, counts: int, total: int) -> None:
    """Add one to the key's entry, made when it is not there, and to the total."""
    code.map(R1, total)
    code.copy(R2, R10)
    code.compute("add", R2, _INDEX)
    code.call(LOOKUP)
    code.jump_if(R0, "==", 0, "leave")
    code.set(R8, 1)
    code.count(R0, 0, R8)
    _find(code, counts)
    code.jump_if(R0, "!=", 0, "found")
    code.map(R1, counts)
    code.copy(R2, R10)
    code.compute("add", R2, _KEY)
    code.copy(R3, R10)
    code.compute("add", R3, _INDEX)  # eight octets of zero
    code.set(R4, _NEW_ONE)
    code.call(UPDATE)
    _find(code, counts)
    code.jump_if(R0, "==", 0, "leave")  # lost: counted in the total alone
    code.label("found")
    code.set(R8, 1)
    code.count(R0, 0, R8)


def _find(code: Code, counts: int) -> None:
    code.map(R1, counts)
    code.copy(R2, R10)
    code.compute("add", R2, _KEY)
    code.call(LOOKUP)
