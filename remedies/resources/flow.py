"""``flow:udp/...``: conntrack flows that a change has made stale. They can only be deleted.

What is deleted is an effect, not a state: absent is done, and rollback does not bring it back.
Addresses are those of :mod:`remedies.rules.flow_address`. A flow goes only if it has seen no
reply and is not what our redirect makes: an answered or redirected one is not stale.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from itertools import islice
from typing import Optional

from remedies.errors import NotPermitted, Unreadable, WriteFailed
from remedies.netlink import conntrack, route
from remedies.netlink.flow import Tuple
from remedies.netlink.socket import NETLINK_NETFILTER, NETLINK_ROUTE, Netlink
from remedies.rules.flow_address import Exact, split
from remedies.rules.prefixes import contains

MOST = 1000
"""Flows that a state names; what goes may be more."""
_ANSWERED_OR_OURS = conntrack.IPS_SEEN_REPLY | conntrack.IPS_DST_NAT
_PATIENCE = 5.0  # seconds that one dump may take
_ROUNDS = 5
"""A client that asks between the deletion of its request and of the answer to it makes a new
stale flow; each round finds those of the one before."""


def read(path: str) -> Optional[str]:
    """Return the stale flows that are there, an exact path a line; raise Unreadable.

    None where there is none; the first :data:`MOST` where there are more.
    """
    split(path)
    try:
        with _open() as client:
            found = [
                f"udp/{'/'.join(map(str, way.parts))}\n"
                for way in islice(_stale(client, path), MOST)
            ]
            return "".join(sorted(found)) or None
    except OSError as error:
        raise conntrack.not_permitted(error) from error


def write(path: str, state: Optional[str]) -> None:
    """Delete the stale flows that ``path`` names; raise WriteFailed, or NotPermitted."""
    split(path)
    if state is not None:
        raise WriteFailed(f"flow:{path}: a flow cannot be made, only deleted")
    try:
        for _ in range(_ROUNDS):
            with _open() as client:
                found = list(_stale(client, path))
            with _open() as client:
                for way in found:
                    conntrack.delete(client, "udp", way)
            if not found:
                return
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise NotPermitted(f"flow:{path}: {error.strerror}", "run as root") from error
        raise WriteFailed(f"flow:{path}: {error.strerror}") from error
    except Unreadable as error:
        raise WriteFailed(error.what, error.hint) from error


def check(path: str, state: Optional[str]) -> None:
    """Look at the address; the kernel has no dry run. Raises InputError and WriteFailed."""
    split(path)
    if state is not None:
        raise WriteFailed(f"flow:{path}: a flow cannot be made, only deleted")


def same(path: str, one: Optional[str], other: Optional[str]) -> bool:
    """Tell whether both say that there is one, or both that there is none."""
    return (one is None) == (other is None)


def counters(path: str) -> dict[str, int]:
    """Return nothing: a flow that is to go counts nothing for us."""
    return {}


def text(path: str, state: Optional[str]) -> str:
    """Return the address of each flow that is there; empty for None."""
    split(path)
    return "".join(f"flow:{line}\n" for line in (state or "").splitlines())


def _open() -> Netlink:
    return Netlink(NETLINK_NETFILTER, time.monotonic() + _PATIENCE)


def _stale(client: Netlink, path: str) -> Iterator[Tuple]:
    """Yield the original direction of each stale flow; raise OSError and Unreadable."""
    named = split(path)
    if isinstance(named, Exact):
        wanted = Tuple(*named)
        entry = conntrack.flow_by_tuple(client, "udp", wanted)
        if entry is not None and entry.original == wanted and not entry.status & _ANSWERED_OR_OURS:
            yield wanted
        return
    try:
        index = socket.if_nametoindex(named.link)
    except OSError:  # the link is gone, and with it the hosts behind it
        return
    behind = _LinkAddresses(index)
    for entry in conntrack.unreplied_udp(client):
        if behind.stale(entry, named.port):
            yield entry.original


class _LinkAddresses:
    """Whose addresses are whose on one link; raises OSError and Unreadable."""

    def __init__(self, index: int) -> None:
        with Netlink(NETLINK_ROUTE, time.monotonic() + _PATIENCE) as client:
            found = route.addresses(client)
        self.local = {item.address for item in found}
        self.own = {item.address for item in found if item.link == index}
        self.subnets = [f"{item.address}/{item.prefix}" for item in found if item.link == index]

    def stale(self, entry: conntrack.Entry, port: int) -> bool:
        """Tell whether a flow without a reply is a request past our redirect, or an answer to one.

        A request goes to another local address than the link's own and was not redirected; its
        answer left from the link's own address.
        """
        way, reply = entry.original, entry.reply
        if way.destination_port == port and self._neighbour(way.source):
            redirected = reply.source in self.own and reply.source_port == port
            return way.destination in self.local - self.own and not redirected
        return way.source_port == port and way.source in self.own and self._neighbour(
            way.destination
        )  # fmt: skip

    def _neighbour(self, address: str) -> bool:
        return address not in self.local and any(contains(net, address) for net in self.subnets)
