"""Fills a namespace's flow table with the flows of one busy UDP service, as its clients would.

The entries are made by ctnetlink (IPCTNL_MSG_CT_NEW with NLM_F_CREATE), which
puts them under the same limit as the kernel's own. They are assured, as those of a service that is
asked again: none gives way to a new one (early_drop()). The limit ``nf_conntrack_max`` is the
machine's, each namespace has its own count, and the entries go with the namespace.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterator

from remedies.errors import NotPermitted
from remedies.lab.world import World
from remedies.namespaces.netns import inside
from remedies.netlink.conntrack import IPCTNL_MSG_CT_DELETE, giving_way
from remedies.netlink.conntrack_entry import IPS_ASSURED, IPS_SEEN_REPLY, TUPLE_ORIG
from remedies.netlink.conntrack_stats import count
from remedies.netlink.socket import (
    NETLINK_NETFILTER,
    Netlink,
    attribute,
    attributes,
    message,
    nested,
)

COUNT, MAX = "net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max"
MOST = 1 << 20
"""Flows that the lab makes at most: about 300 MB of kernel memory."""

_CT_NEW = 1 << 8  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW
_REQUEST_CREATE = 0x1 | 0x400  # NLM_F_REQUEST, NLM_F_CREATE
_ORIGINAL, _REPLY, _STATUS, _TIMEOUT = 1, 2, 3, 7  # CTA_*
_ANSWERED = IPS_SEEN_REPLY | 1 << 3
_ESTABLISHED = _ANSWERED | IPS_ASSURED
"""With IPS_CONFIRMED: a status without it is refused (ctnetlink_change_status())."""
_SECONDS = 3600
_SPARE = 1 << 10
"""Flows that are asked for beside those that fit: the kernel may refuse one for reasons of its own,
and a single free place lets a new flow through."""
_BATCH = 1 << 16
"""Bytes that one send holds."""


def fill(world: World, address: str, port: int, flows: int = 0) -> None:
    """Make ``flows`` flows (0: until no more fit) to a UDP service on the world's host.

    Raises NotPermitted where the machine's limit is above :data:`MOST`.
    """
    most = int(world.sysctl("host", MAX))
    if most > MOST:
        raise NotPermitted(
            f"{MAX} is {most}: the lab makes at most {MOST} flows",
            f"lower it on a machine for tests (sysctl -w {MAX}={MOST})",
        )
    with world.socket("host", socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as ctnetlink:
        make(ctnetlink, address, port, flows or most + _SPARE)
        # It is full for as long as the story is told only where each entry is one of ours.
        others = most + _SPARE
        while not flows and _makes_room(world, most):
            make(ctnetlink, address, port, _SPARE, after=others)
            others += _SPARE


def _makes_room(world: World, most: int) -> bool:
    """Delete what would give way to a new flow; tell whether there is a free place.

    The kernel's own packets are tracked, too: a bridge reports its multicast groups by IGMP, and
    such an entry, which nobody answers, is evicted seconds later.
    """
    with inside(world.namespace("host")), Netlink(NETLINK_NETFILTER) as client:
        for entry in tuple(giving_way(client)):
            original = nested(TUPLE_ORIG, dict(attributes(entry, 4))[TUPLE_ORIG])
            with contextlib.suppress(FileNotFoundError):  # it has gone already
                client.request(IPCTNL_MSG_CT_DELETE, struct.pack("=BBH", entry[0], 0, 0) + original)
        return count(client) < most


def make(
    ctnetlink: socket.socket,
    address: str,
    port: int,
    flows: int,
    *,
    assured: bool = True,
    after: int = 0,
) -> None:
    """Make flows in the namespace of a netlink socket, as long as they fit.

    ``assured``: none of them gives way; else as of clients that asked once and got an answer.
    ``after``: how many clients there have been before.
    """
    batch = b""
    clients = range(after + 1, after + flows + 1)
    for one in _messages(address, port, clients, _ESTABLISHED if assured else _ANSWERED):
        batch += one
        if len(batch) > _BATCH:
            ctnetlink.send(batch)
            batch = b""
    if batch:
        ctnetlink.send(batch)


def _messages(address: str, port: int, clients: range, status: int) -> Iterator[bytes]:
    """Yield one request a flow; each differs from the first in its client's address alone."""
    first = ipaddress.ip_address("2001:db8::" if ":" in address else "10.64.0.0")
    ours, marker = ipaddress.ip_address(address).packed, first.packed
    template = _message(marker, ours, port, status)
    places = [i for i in range(len(template)) if template.startswith(marker, i)]
    made = bytearray(template)
    for number in clients:
        client = (first + number).packed
        for place in places:
            made[place : place + len(client)] = client
        yield bytes(made)


def _message(client: bytes, service: bytes, port: int, status: int) -> bytes:
    family = socket.AF_INET6 if len(client) == 16 else socket.AF_INET
    payload = (
        struct.pack("=BBH", family, 0, 0)
        + _tuple(_ORIGINAL, client, 40000, service, port)
        + _tuple(_REPLY, service, port, client, 40000)
        + attribute(_STATUS, struct.pack(">I", status))
        + attribute(_TIMEOUT, struct.pack(">I", _SECONDS))
    )
    return message(_CT_NEW, _REQUEST_CREATE, 0, payload)


def _tuple(kind: int, source: bytes, source_port: int, target: bytes, target_port: int) -> bytes:
    """Return CTA_TUPLE_ORIG or CTA_TUPLE_REPLY of UDP."""
    at = (3, 4) if len(source) == 16 else (1, 2)  # CTA_IP_V6_SRC, CTA_IP_V4_SRC and the two DST
    ends = nested(1, attribute(at[0], source), attribute(at[1], target))
    protocol = attribute(1, bytes([socket.IPPROTO_UDP]))
    ports = (attribute(2, struct.pack(">H", source_port)),
             attribute(3, struct.pack(">H", target_port)))  # fmt: skip
    return nested(kind, ends, nested(2, protocol, *ports))
