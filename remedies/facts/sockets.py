"""Wildcard UDP sockets, their owners, and whether they choose their reply's source."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Asking
from remedies.facts.links import Links
from remedies.facts.sysctl import Sysctl

AFTER = ("links", "sysctl")

ANY = {int(socket.AF_INET): "0.0.0.0", int(socket.AF_INET6): "::"}  # noqa: S104  # named, not bound


@dataclass(frozen=True)
class Process:
    """Who holds a socket."""

    pid: int
    name: str
    """comm, at most 15 bytes."""
    argv: tuple[str, ...] = ()
    unit: str = ""
    """systemd unit from the cgroup path, or empty."""
    container: str = ""
    """Container id (12 hex digits) from the cgroup path, or empty."""


@dataclass(frozen=True)
class UdpSocket:
    """One UDP socket that listens on every address."""

    family: int
    """4 or 6."""
    address: str
    port: int
    inode: int
    uid: int
    device: str = ""
    """The interface it is bound to (SO_BINDTODEVICE), or empty."""
    v6only: Optional[bool] = None
    pktinfo: Optional[bool] = None
    """It asks for IP_PKTINFO (or IPV6_RECVPKTINFO): it can answer from the right address.
    None: not permitted to look."""
    owner: Optional[Process] = None

    @property
    def serves(self) -> tuple[int, ...]:
        """Return the families whose clients reach it: a ``::`` socket takes IPv4 too."""
        if self.family == 4:
            return (4,)
        return (6,) if self.v6only else (6, 4)

    def spans(self, links: Links) -> bool:
        """Tell whether clients can reach it by addresses in two subnets or more."""
        return not self.device and any(links.subnets(family) >= 2 for family in self.serves)


@dataclass(frozen=True)
class Sockets:
    """UDP sockets that could answer from a wrong address."""

    wildcard: tuple[UdpSocket, ...] = ()
    """Unconnected, local address 0.0.0.0 or ::."""
    unread: tuple[str, ...] = ()


def read(asking: Asking) -> Sockets:
    """Read the wildcard sockets, and owner and PKTINFO of those that somebody may ask about.

    Owners cost a walk through /proc, so they are looked up for sockets that span two subnets,
    and for all where the flow table is nearly full (which service fills it?).
    Raises Unreadable where sock_diag does not answer.
    """
    from remedies.netlink.diag import wildcard_udp
    from remedies.netlink.socket import NETLINK_SOCK_DIAG, Netlink

    try:
        with Netlink(NETLINK_SOCK_DIAG, asking.deadline()) as client:
            raw = list(wildcard_udp(client))
    except OSError as error:
        raise Unreadable(f"UDP sockets (sock_diag): {error.strerror}") from error
    found = [
        UdpSocket(
            family=6 if item.family == socket.AF_INET6 else 4,
            address=ANY[item.family],
            port=item.port,
            inode=item.inode,
            uid=item.uid,
            device=_device(item.interface),
            v6only=item.v6only,
        )
        for item in raw
    ]
    links = asking.earlier(Links)
    every = links is None or _nearly_full(asking)
    wanted = {item.inode: item.family for item in found if every or (links and item.spans(links))}
    if not wanted:
        return Sockets(tuple(found))
    from remedies.facts import processes

    seen, unread = processes.look_up(wanted, asking.deadline())
    return Sockets(
        tuple(
            replace(item, owner=seen[item.inode].owner, pktinfo=seen[item.inode].pktinfo)
            if item.inode in seen
            else item
            for item in found
        ),
        unread,
    )


def _device(index: int) -> str:
    if not index:
        return ""
    try:
        return socket.if_indextoname(index)
    except OSError:  # the link went away in between
        return f"#{index}"


def _nearly_full(asking: Asking) -> bool:
    from remedies.facts.flows import PRESSURE

    sysctl = asking.earlier(Sysctl)
    values = {} if sysctl is None else sysctl.values
    try:
        count = int(values["net.netfilter.nf_conntrack_count"])
        return count > PRESSURE * int(values["net.netfilter.nf_conntrack_max"])
    except (KeyError, ValueError):
        return False
