"""nftables' own trace: which rule each packet of a conversation met, as the kernel says it.

A table of ours marks the packets that are asked about (``meta nftrace set 1``), and the kernel
tells each verdict about them to a multicast group of netlink. The table has the flag *owner*
(Linux 5.12): it belongs to the socket that made it, nobody else can change or flush it, and the
kernel removes it when that socket is closed, also by SIGKILL. It decides about no packet.

Numbers are those of include/uapi/linux/netfilter/nf_tables.h. Rules of iptables-legacy are not
traced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Optional

from remedies.errors import Unreadable
from remedies.netlink.flow import Tuple
from remedies.netlink.nft import FAMILIES, HEADER
from remedies.netlink.socket import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    attribute,
    attributes,
    failure,
    message,
    messages,
    nested,
)
from remedies.rules.ours import TRACE_PREFIX
from remedies.tap.drops import decode_ip
from remedies.values import NamedTuple

DROP, ACCEPT = 0, 1  # include/uapi/linux/netfilter.h

_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 16, 17  # include/uapi/linux/netfilter/nfnetlink.h
_NEWTABLE, _NEWCHAIN, _NEWRULE, _TRACE = 0, 3, 6, 17
_CREATE, _APPEND = 0x400, 0x800
_OWNER = 2  # NFT_TABLE_F_OWNER
_GROUP, _SOL_NETLINK, _ADD_MEMBERSHIP = 9, 270, 1  # NFNLGRP_NFTRACE
_INET = 1  # NFPROTO_INET
_CHAINS = {"prerouting": 0, "output": 3}
_BEFORE_ALL = -350  # before raw (-300)
_META_NFTRACE, _META_NFPROTO, _META_L4PROTO = 12, 15, 16
_NETWORK, _TRANSPORT = 1, 2
_BY_POLICY, _BY_RULE = 1, 3  # enum nft_trace_types
_PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "sctp": 132}
_MOST_PACKETS = 4096
"""Packets whose headers are remembered."""
_PER_SECOND = 50
"""Packets that one rule of ours marks: each is told by a message for each rule that it meets."""
_MOST_RULES = 64
_BUFFER = 1 << 21
_PATIENCE = 2.0


class TraceVerdict(NamedTuple):
    """What one rule, or the policy of a base chain, decided about one packet."""

    packet: int
    """The kernel's number of the packet."""
    family: str
    table: str
    chain: str
    handle: int
    """Of the rule; 0: the policy of the chain."""
    verdict: int
    """:data:`DROP`, :data:`ACCEPT`, or another one of the kernel's."""
    protocol: str = ""
    way: Optional[Tuple] = None
    """As the packet had it in this base chain; None where the kernel did not say it again."""


class TraceMessages:
    """What the kernel's messages say. Pure, but for the packets' headers, which it remembers."""

    def __init__(self) -> None:
        """Know no packet yet."""
        self._ends: dict[int, tuple[str, Tuple]] = {}

    def verdict(self, body: bytes) -> Optional[TraceVerdict]:
        """Return what a message says; None for what decides nothing.

        The policy of our own chain accepts each packet that is marked: it is being traced.
        """
        got = dict(attributes(body, HEADER))
        packet, how = _number(got.get(6)), _number(got.get(4))
        protocol, way = self._end(packet, got)
        code = dict(attributes(got.get(5, b""))).get(1) if how == _BY_RULE else got.get(16)
        if how not in (_BY_POLICY, _BY_RULE) or code is None:
            return None
        verdict = struct.unpack(">i", code)[0]
        family = FAMILIES.get(body[0], str(body[0]))
        handle = _number(got.get(3)) if how == _BY_RULE else 0
        return TraceVerdict(
            packet, family, _text(got.get(1)), _text(got.get(2)), handle, verdict, protocol, way
        )

    def _end(self, packet: int, got: dict[int, bytes]) -> tuple[str, Optional[Tuple]]:
        """Return protocol and ends of a packet: the kernel tells its headers once a base chain."""
        told = decode_ip(got.get(8, b""), got.get(9, b""))
        if told is not None and told.way is not None:
            if len(self._ends) >= _MOST_PACKETS:
                self._ends.clear()
            self._ends[packet] = told.protocol, told.way
        return self._ends.get(packet, ("", None))


class TraceTable:
    """The table, and the verdicts about what it marks, in the namespace the process is in."""

    def __init__(self) -> None:
        """Make the table, with no rule yet. Raises Unreadable where the kernel does not let us."""
        self.name = f"{TRACE_PREFIX}{os.getpid()}"
        self._rules: set[bytes] = set()
        self._sequence = 0
        self._messages = TraceMessages()
        with contextlib.ExitStack() as made:
            self._owner = made.enter_context(_socket())
            self._heard = made.enter_context(_socket())
            try:
                self._heard.bind((0, 0))
                self._heard.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP)
                self._heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
                self._heard.setblocking(False)
                named = attribute(1, self.name.encode() + b"\0")
                self._batch(
                    (_NEWTABLE, _CREATE, named + attribute(2, struct.pack(">I", _OWNER))),
                    *((_NEWCHAIN, _CREATE, _chain(named, *chain)) for chain in _CHAINS.items()),
                )
            except OSError as error:
                raise _refused(error) from error
            self._made = made.pop_all()

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when there are verdicts."""
        return self._heard.fileno()

    def mark(self, protocol: str, way: Tuple) -> None:
        """Have packets of a protocol marked from now on; an end that is empty, or 0, is any end.

        Those that are marked already, or would be too many rules, are passed over. Raises
        Unreadable.
        """
        expressions = marking(protocol, way)
        if expressions in self._rules or len(self._rules) >= _MOST_RULES:
            return
        self._rules.add(expressions)
        named = attribute(1, self.name.encode() + b"\0")
        try:
            self._batch(
                *(
                    (
                        _NEWRULE,
                        _CREATE | _APPEND,
                        named + attribute(2, chain.encode() + b"\0") + expressions,
                    )
                    for chain in _CHAINS
                )
            )
        except OSError as error:
            raise _refused(error) from error

    def read(self) -> Iterator[TraceVerdict]:
        """Yield the verdicts that have arrived; what the kernel had no room for is passed over."""
        while True:
            try:
                datagram, sender = self._heard.recvfrom(1 << 17)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    continue
                raise
            if sender[0] != 0:  # not the kernel
                continue
            for kind, _, _, body in messages(datagram):
                if kind == _SUBSYSTEM | _TRACE and (verdict := self._messages.verdict(body)):
                    yield verdict

    def close(self) -> None:
        """Let the kernel remove the table; safe to repeat."""
        self._made.close()

    def _batch(self, *commands: tuple[int, int, bytes]) -> None:
        """Do all of them or none. Raises OSError with the kernel's number."""
        edge = struct.pack(">BBH", 0, 0, 10)
        head = struct.pack("=BBH", _INET, 0, 0)
        begin = self._sequence + 1
        parts = [message(_BATCH_BEGIN, NLM_F_REQUEST, begin, edge)]
        for number, (kind, flags, body) in enumerate(commands, begin + 1):
            asked = flags | NLM_F_REQUEST | NLM_F_ACK
            parts.append(message(_SUBSYSTEM | kind, asked, number, head + body))
        self._sequence = begin + len(commands) + 1
        parts.append(message(_BATCH_END, NLM_F_REQUEST, self._sequence, edge))
        self._owner.send(b"".join(parts))
        waiting = set(range(begin + 1, begin + 1 + len(commands)))
        self._owner.settimeout(_PATIENCE)
        end = time.monotonic() + _PATIENCE
        while waiting and time.monotonic() < end:
            datagram, sender = self._owner.recvfrom(1 << 16)
            for kind, flags, number, body in messages(datagram) if sender[0] == 0 else ():
                if kind == NLMSG_ERROR and number >= begin:
                    error = failure(flags, body)
                    if error is not None:
                        raise error
                    waiting.discard(number)
        if waiting:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def _socket() -> socket.socket:
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    except OSError as error:
        raise _refused(error) from error


def _refused(error: OSError) -> Unreadable:
    known = {
        errno.EPERM: "it takes CAP_NET_ADMIN",
        errno.EINVAL: "it takes nf_tables and Linux 5.12",
        errno.EOPNOTSUPP: "it takes nf_tables and Linux 5.12",
    }
    why = known.get(error.errno or 0, "the kernel refused it")
    return Unreadable(f"nftrace: {error.strerror or error}: {why}", "go without --rules")


def _chain(named: bytes, name: str, hook: int) -> bytes:
    hooked = nested(
        4, attribute(1, struct.pack(">I", hook)), attribute(2, struct.pack(">i", _BEFORE_ALL))
    )
    return named + attribute(3, name.encode() + b"\0") + hooked + attribute(7, b"filter\0")


def marking(protocol: str, way: Tuple) -> bytes:
    """Return NFTA_RULE_EXPRESSIONS of a rule that marks such packets."""
    six = ":" in (way.source or way.destination)
    parts: list[bytes] = []
    if way.source or way.destination:
        parts += [_meta(_META_NFPROTO), _equal(bytes((10 if six else 2,)))]
    if protocol in _PROTOCOLS:
        parts += [_meta(_META_L4PROTO), _equal(bytes((_PROTOCOLS[protocol],)))]
    kind, size = (socket.AF_INET6, 16) if six else (socket.AF_INET, 4)
    offsets = (8, 24) if six else (12, 16)
    for address, offset in zip((way.source, way.destination), offsets):
        if address:
            value = socket.inet_pton(kind, address)
            parts += [_payload(_NETWORK, offset, size), _equal(value)]
    for port, offset in ((way.source_port, 0), (way.destination_port, 2)):
        if port and protocol in ("tcp", "udp", "sctp"):
            parts += [_payload(_TRANSPORT, offset, 2), _equal(struct.pack(">H", port))]
    rate = struct.pack(">Q", _PER_SECOND), struct.pack(">Q", 1), struct.pack(">I", _PER_SECOND)
    parts.append(_named("limit", *(attribute(n, value) for n, value in enumerate(rate, 1))))
    parts.append(_named("immediate", _u32(1, 1), nested(2, attribute(1, b"\1"))))
    parts.append(_named("meta", _u32(2, _META_NFTRACE), _u32(3, 1)))
    return nested(4, *parts)


def _named(name: str, *data: bytes) -> bytes:
    return nested(1, attribute(1, name.encode() + b"\0"), nested(2, *data))


def _u32(number: int, value: int) -> bytes:
    return attribute(number, struct.pack(">I", value))


def _meta(key: int) -> bytes:
    return _named("meta", _u32(1, 1), _u32(2, key))


def _payload(base: int, offset: int, size: int) -> bytes:
    return _named("payload", _u32(1, 1), _u32(2, base), _u32(3, offset), _u32(4, size))


def _equal(value: bytes) -> bytes:
    return _named("cmp", _u32(1, 1), _u32(2, 0), nested(3, attribute(1, value)))


def _number(value: Optional[bytes]) -> int:
    return int.from_bytes(value or b"", "big")


def _text(value: Optional[bytes]) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")
