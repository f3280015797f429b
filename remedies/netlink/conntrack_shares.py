"""Who fills the flow table: counted in one walk, without keeping what is counted.

Attributes as in :mod:`remedies.netlink.conntrack_entry`; TCP states are those of
``enum tcp_conntrack`` (include/uapi/linux/netfilter/nf_conntrack_tcp.h).
"""

from __future__ import annotations

import socket

from remedies.errors import Unreadable
from remedies.netlink.conntrack import everything
from remedies.netlink.conntrack_entry import LAYOUTS, PROTO_HEADER, TCP_STATE_HEADER, service
from remedies.netlink.socket import Netlink
from remedies.values import NamedTuple, dataclass

MOST_COUNTED = 16_384
"""Entries that are looked at: they are told in the order of their hashes (ctnetlink_dump_table()
in net/netfilter/nf_conntrack_netlink.c), so that the first of them are a fair sample. A share of
10 % is told as one of 9.5 to 10.5 % in 19 of 20 samples."""

_STATES = (
    "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK",
    "TIME_WAIT", "CLOSE", "SYN_SENT2",
)  # fmt: skip
_SOURCE = 16  # where the source address of LAYOUTS begins
_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 58: "icmpv6", 132: "sctp"}


class ServiceShare(NamedTuple):
    """How many UDP entries ask one address and port."""

    destination: str
    port: int
    flows: int


class SourceShare(NamedTuple):
    """How many entries one address began, of one protocol and state."""

    source: str
    protocol: str
    state: str
    """Of TCP, as conntrack(8) prints it; empty for others."""
    flows: int


@dataclass(frozen=True)
class Shares:
    """What a walk of the table counted, most first."""

    services: tuple[ServiceShare, ...]
    sources: tuple[SourceShare, ...]
    counted: int
    """Entries that were looked at."""
    stopped: str = ""
    """Why the walk ended before the table did; empty: it did not."""


def shares(client: Netlink) -> Shares:
    """Count the table by UDP service and by source, protocol and state, in one walk.

    Of a table of more than :data:`MOST_COUNTED` entries the first ones are counted.
    Where the client's deadline comes first, what was counted until then is returned: it is a
    sample of the table. Raises OSError (EPERM without CAP_NET_ADMIN), and Unreadable where nothing
    could be counted.
    """
    services: dict[bytes, int] = {}
    sources: dict[bytes, int] = {}
    counted, stopped = 0, ""
    try:
        for payload in everything(client):
            if counted == MOST_COUNTED:
                break
            counted += 1
            asked = service(payload)
            if asked is not None:
                services[asked] = services.get(asked, 0) + 1
            at = LAYOUTS.get(payload[0])
            if at is None or payload[at.protocol - 4 : at.protocol] != PROTO_HEADER:
                continue
            protocol, state = payload[at.protocol], 0
            if protocol == socket.IPPROTO_TCP:
                found = payload.find(TCP_STATE_HEADER, at.port)
                state = payload[found + 6] if 0 < found < len(payload) - 6 else 0
            end = _SOURCE + at.end - at.destination
            began = payload[_SOURCE:end] + bytes((protocol, state))
            sources[began] = sources.get(began, 0) + 1
    except Unreadable as error:
        if not counted:
            raise
        stopped = str(error)
    return Shares(
        tuple(
            ServiceShare(_address(key[:-2]), int.from_bytes(key[-2:], "big"), count)
            for key, count in _most(services)
        ),
        tuple(_source(key, count) for key, count in _most(sources)),
        counted,
        stopped,
    )


def _most(counts: dict[bytes, int]) -> list[tuple[bytes, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _source(key: bytes, count: int) -> SourceShare:
    protocol, state = key[-2:]
    tcp = protocol == socket.IPPROTO_TCP
    name = _STATES[state] if tcp and state < len(_STATES) else ""
    return SourceShare(_address(key[:-2]), _NAMES.get(protocol, str(protocol)), name, count)


def _address(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
