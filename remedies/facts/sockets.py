"""Wildcard UDP sockets, their owners, and whether they choose their reply's source."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Asking, processes
from remedies.facts.flows import PRESSURE
from remedies.facts.process import Process
from remedies.facts.sysctl import Sysctl
from remedies.netlink.diag import bound_udp, wildcard_udp
from remedies.netlink.links import Links
from remedies.netlink.socket import NETLINK_SOCK_DIAG, Netlink
from remedies.values import dataclass, replace

AFTER = ("links", "sysctl", "flows")
"""Of the moment in which the flows were read: a server that began within the window is seen."""

MOST_CONNECTED = 200

ANY = {int(socket.AF_INET): "0.0.0.0", int(socket.AF_INET6): "::"}  # noqa: S104  # named, not bound


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
    kernel: bool = False
    """No process of the machine holds it: it is the kernel's own, of VXLAN, WireGuard or NFS."""

    def __post_init__(self) -> None:
        """Raise ValueError for a family there is not: saved facts are a person's to edit."""
        if self.family not in (4, 6):
            raise ValueError(f"no IP version {self.family}")

    @property
    def serves(self) -> tuple[int, ...]:
        """Return the families whose clients reach it: a ``::`` socket takes IPv4 too."""
        if self.family == 4:
            return (4,)
        return (6,) if self.v6only else (6, 4)

    def spans(self, askable: Mapping[int, Sequence[str]]) -> bool:
        """Tell whether clients can reach it by two addresses of one family or more.

        ``askable``: as :meth:`Links.askable`.
        """
        return not self.device and any(len(askable[family]) > 1 for family in self.serves)


@dataclass(frozen=True)
class BoundSocket:
    """One UDP socket with a local address that others can reach."""

    address: str
    port: int
    inode: int
    peer: str = ""
    """Whom it is connected to; empty: nobody, it is bound to its address."""
    peer_port: int = 0
    owner: Optional[Process] = None


@dataclass(frozen=True)
class Sockets:
    """UDP sockets that could answer from a wrong address."""

    wildcard: tuple[UdpSocket, ...] = ()
    """Unconnected, local address 0.0.0.0 or ::."""
    bound: tuple[BoundSocket, ...] = ()
    """Without a peer, on a port that a wildcard or connected socket has, too."""
    connected: tuple[BoundSocket, ...] = ()
    """With a peer: at most :data:`MOST_CONNECTED`, those on a bridge's address first. A server
    that calls connect() is among them, and every client of the host itself."""
    unread: tuple[str, ...] = ()


def read(asking: Asking) -> Sockets:
    """Read the sockets, and owner and PKTINFO of those that somebody may ask about.

    Owners cost a walk through /proc, so they are looked up for sockets with two addresses to ask,
    for connected ones on a bridge's address, and for all wildcard ones where the flow table is
    nearly full (which service fills it?).
    Raises Unreadable where sock_diag does not answer.
    """
    links = asking.earlier(Links)
    try:
        with Netlink(NETLINK_SOCK_DIAG, asking.deadline()) as client:
            raw = list(wildcard_udp(client))
            ports = {item.port for item in raw}
            bound, connected, more = _with_address(client, links, ports)
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
    askable = None if links is None or _nearly_full(asking) else links.askable()
    wanted = {i.inode: i.family for i in found if askable is None or i.spans(askable)}
    wanted.update({item.inode: family for item, family in connected if family})
    cut = (f"connected UDP sockets: {more} beyond the first {MOST_CONNECTED}",) if more else ()
    fact = Sockets(tuple(found), bound, tuple(item for item, _ in connected), cut)
    if not wanted:
        return fact

    seen, unread = processes.look_up(wanted, asking.deadline())
    owners = {inode: one.owner for inode, one in seen.items()}
    nobodys = wanted.keys() - seen.keys() if processes.sees_all() and not unread else set()
    return replace(
        fact,
        wildcard=tuple(
            replace(item, owner=seen[item.inode].owner, pktinfo=seen[item.inode].pktinfo)
            if item.inode in seen
            else replace(item, kernel=item.inode in nobodys)
            for item in found
        ),
        connected=tuple(replace(item, owner=owners.get(item.inode)) for item in fact.connected),
        unread=cut + unread,
    )


def _with_address(
    client: Netlink, links: Optional[Links], ports: set[int]
) -> tuple[tuple[BoundSocket, ...], list[tuple[BoundSocket, int]], int]:
    """Return the bound sockets on ``ports``, the connected ones, and how many more are connected.

    Each connected one with its family (4 or 6) where it has a bridge's address, else 0.
    """
    if links is None:
        return (), [], 0
    kinds = {
        _packed(item.address): links.kind(item.link)
        for family in (4, 6)
        for item in links.reachable(family)
    }
    bound: list[BoundSocket] = []
    connected: list[tuple[BoundSocket, int]] = []
    for item in bound_udp(client, kinds):
        mine = BoundSocket(_text(item.address), item.port, item.inode)
        if not item.peer_port:
            bound.append(mine)
            continue
        family = 6 if item.family == socket.AF_INET6 else 4
        mine = replace(mine, peer=_text(item.peer), peer_port=item.peer_port)
        connected.append((mine, family if kinds[item.address] == "bridge" else 0))
    connected.sort(key=lambda entry: not entry[1])
    more = max(0, len(connected) - MOST_CONNECTED)
    del connected[MOST_CONNECTED:]
    ports = ports | {item.port for item, _ in connected}
    return tuple(item for item in bound if item.port in ports), connected, more


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def _device(index: int) -> str:
    if not index:
        return ""
    try:
        return socket.if_indextoname(index)
    except OSError:  # the link went away in between
        return f"#{index}"


def _nearly_full(asking: Asking) -> bool:
    sysctl = asking.earlier(Sysctl)
    values = {} if sysctl is None else sysctl.values
    try:
        count = int(values["net.netfilter.nf_conntrack_count"])
        return count > PRESSURE * int(values["net.netfilter.nf_conntrack_max"])
    except (KeyError, ValueError):
        return False
