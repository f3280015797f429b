"""Dropped packets, with the kernel's own reason for each: counted in the kernel, read as values.

A fresh count each time: what was read is deleted from the map. The map holds 4,096 conversations;
when it is full it forgets the one least in use, and what it forgot is counted as lost.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from typing import Optional

from remedies.bpf import kernel
from remedies.netlink.flow import Tuple
from remedies.tap import drop_program
from remedies.tap.drop_program import KEY, NO_ENTRY, VALUE
from remedies.tap.drop_types import drop_types
from remedies.values import dataclass

MOST = 4096
_PREFIX = "SKB_DROP_REASON_"
_STATES = {
    0: "established", 1: "related", 2: "new", 3: "established, reply", 4: "related, reply",
    7: "untracked", NO_ENTRY: "",
}  # fmt: skip
"""enum ip_conntrack_info, include/uapi/linux/netfilter/nf_conntrack_common.h."""
_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 58: "icmpv6", 132: "sctp", 136: "udplite"}
_PORTS = (6, 17, 33, 132, 136)
_ICMP = (1, 58)
_VERSIONS = {4: (0x0800, 20), 6: (0x86DD, 40)}
"""Ethertype and octets of the header of each IP version."""


@dataclass(frozen=True)
class DroppedPacket:
    """The headers of a dropped packet, without what differs within one conversation."""

    protocol: str
    """``tcp``, ``udp``, ``icmp`` ..., the protocol's number; ``ethertype 0x...``, or
    ``packet`` for one that has no headers yet."""
    way: Optional[Tuple] = None
    """Addresses and ports (0 where the protocol has none); None where it is no IP packet."""
    flags: int = 0
    """TCP's flags."""
    icmp: Optional[tuple[int, int]] = None
    """Type and code of an ICMP message."""


@dataclass(frozen=True)
class Drop:
    """Packets of one kind that were dropped in one place since the last look."""

    reason: str
    """The kernel's name without its prefix: ``NETFILTER_DROP``; its number where it has none."""
    cookie: int
    """Of the namespace; 0 where neither an interface nor a socket tells."""
    place: int
    """Address in the kernel's code."""
    link: int
    """Index of the interface in that namespace; 0 for none."""
    state: str
    """What conntrack holds about it, ``""`` for nothing: not asked yet, or INVALID."""
    packet: DroppedPacket
    count: int


def decode_ip(headers: bytes, beyond: bytes = b"") -> Optional[DroppedPacket]:
    """Return what a packet says that begins with its IP header; None where that is not whole.

    ``beyond``: what follows that header, where the kernel tells it apart.
    """
    ethertype, least = _VERSIONS.get(headers[0] >> 4 if headers else 0, (0, 0))
    return decode(headers + beyond, ethertype) if ethertype and len(headers) >= least else None


def decode(headers: bytes, ethertype: int) -> DroppedPacket:
    """Return what the kept octets of a packet say."""
    version = headers[0] >> 4
    if (ethertype, version) == (0x0800, 4):
        start, number = 4 * (headers[0] & 15), headers[9]
        ends = [socket.inet_ntop(socket.AF_INET, headers[at : at + 4]) for at in (12, 16)]
        later = struct.unpack_from(">H", headers, 6)[0] & 0x1FFF
    elif (ethertype, version) == (0x86DD, 6):
        start, number, later = 40, headers[6], 0
        ends = [socket.inet_ntop(socket.AF_INET6, headers[at : at + 16]) for at in (8, 24)]
    else:
        return DroppedPacket(f"ethertype {ethertype:#06x}" if ethertype else "packet")
    name = _NAMES.get(number, str(number))
    if later or start + 4 > len(headers):  # a later fragment, or options without end
        return DroppedPacket(name, Tuple(ends[0], 0, ends[1], 0))
    if number in _PORTS:
        ports = struct.unpack_from(">HH", headers, start)
        flags = headers[start + 13] if number == 6 and start + 14 <= len(headers) else 0
        return DroppedPacket(name, Tuple(ends[0], ports[0], ends[1], ports[1]), flags)
    icmp = (headers[start], headers[start + 1]) if number in _ICMP else None
    return DroppedPacket(name, Tuple(ends[0], 0, ends[1], 0), icmp=icmp)


class DropCounter:
    """Counts the drops of one namespace, or of all. Nothing is written but the program itself."""

    def __init__(self, only: int = 0, cache: Optional[str] = None) -> None:
        """Begin to count; ``only``: the cookie of the one namespace.

        ``cache``: the folder in which the kernel's types are kept (:mod:`drop_types`).
        Raises Unreadable where this kernel or its permissions do not allow it, with the reason.
        """
        self._only = only
        self._seen = 0
        types = drop_types(cache)
        self._reasons = {number: name for name, number in types.reasons.items()}
        with contextlib.ExitStack() as made:
            self._counts = kernel.Map(kernel.LRU_HASH, KEY.size, VALUE.size, MOST)
            made.callback(self._counts.close)
            self._total = kernel.Map(kernel.ARRAY, 4, VALUE.size, 1)
            made.callback(self._total.close)
            maps = self._counts.descriptor, self._total.descriptor
            program = kernel.attach(
                drop_program.TRACEPOINT, drop_program.program(types.offsets, *maps, only=only)
            )
            made.callback(os.close, program)
            self._made = made.pop_all()

    def read(self) -> Iterator[Drop]:
        """Yield what was dropped since the last look, without order. Raises Unreadable."""
        for key, value in self._counts.take():
            cookie, place, reason, link, ethertype, state, headers = KEY.unpack(key)
            (count,) = VALUE.unpack(value)
            self._seen += count
            if self._only in (0, cookie):
                yield Drop(
                    reason=self._reasons.get(reason, str(reason)).removeprefix(_PREFIX),
                    cookie=cookie,
                    place=place,
                    link=link,
                    state=_STATES.get(state, str(state)),
                    packet=decode(headers, socket.ntohs(ethertype)),
                    count=count,
                )

    def lost(self) -> int:
        """Return how many drops were counted and found no room; call it right after a look.

        What was dropped between the two is no loss, and is taken for one until the next look.
        """
        (total,) = VALUE.unpack(self._total.value(bytes(4)))
        return max(0, int(total) - self._seen)

    def close(self) -> None:
        """Stop counting; safe to repeat."""
        self._made.close()
