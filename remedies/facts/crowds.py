"""Destinations towards which TCP clients of this namespace use up the local ports there are.

connect(2) takes a local port from ``ip_local_port_range`` and fails with EADDRNOTAVAIL where each
is in use towards that address and port; no counter moves (__inet_hash_connect() in
net/ipv4/inet_hashtables.c). Sockets are looked at only where there are so many that it can be.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Asking, processes
from remedies.facts.counters import PROC_NET
from remedies.facts.process import Process
from remedies.facts.sysctl import Sysctl
from remedies.netlink.diag import LISTEN, Socket, by_local_ports
from remedies.netlink.socket import NETLINK_SOCK_DIAG, Netlink
from remedies.values import dataclass, replace

AFTER = ("sysctl",)

RANGE, RESERVED = "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"
REUSE = "net.ipv4.tcp_tw_reuse"
CROWDED = 0.9
"""Share of the local ports from which on a destination is told."""
_MOST = 16
_TIME_WAIT = 6  # TCP_TIME_WAIT, include/net/tcp_states.h
_Way = tuple[str, str, int]


@dataclass(frozen=True)
class Crowd:
    """One local address and one destination, and the local ports that are in use between them."""

    address: str
    destination: str
    port: int
    """Of the destination."""
    used: int
    waiting: int
    """Those of ``used`` that are in TIME_WAIT: nobody's, and freed after a minute."""
    owner: Optional[Process] = None
    """Of one of the others."""


@dataclass(frozen=True)
class Crowds:
    """Where local ports run out."""

    available: int = 0
    """Ports that the kernel gives out: of the range, not reserved, and no listener's."""
    crowds: tuple[Crowd, ...] = ()
    """Destinations that use nearly all of them, the fullest first."""
    unread: tuple[str, ...] = ()


def read(asking: Asking) -> Crowds:
    """Read the fact. Raises Unreadable where sockets could use up the range and are not shown."""
    sysctl = asking.earlier(Sysctl)
    bounds = ((sysctl.get(RANGE) if sysctl is not None else None) or "").split()
    if sysctl is None or len(bounds) != 2:
        raise Unreadable(f"{RANGE}: not read")
    low, high = map(int, bounds)
    ports, kept = range(low, high + 1), reserved(sysctl.get(RESERVED) or "")
    given = len(ports) - sum(port in ports for port in kept)
    if _sockets_there_are() < CROWDED * given:
        return Crowds(given)
    try:
        with Netlink(NETLINK_SOCK_DIAG, asking.deadline()) as client:
            found = list(by_local_ports(client, "tcp", low, high))
    except OSError as error:
        raise Unreadable(f"TCP sockets (sock_diag): {error.strerror}") from error
    available = len({*ports} - kept - {one.local[1] for one in found if one.state == LISTEN})
    crowds = crowded(found, available)
    seen, unread = processes.look_up(
        {inode: 6 if ":" in crowd.address else 4 for crowd, inode in crowds if inode},
        asking.deadline(),
    )
    named = (
        replace(crowd, owner=seen[inode].owner) if inode in seen else crowd
        for crowd, inode in crowds
    )
    return Crowds(available, tuple(named), unread)


def reserved(text: str) -> set[int]:
    """Return the ports of a list as ``8080,9148-9150`` (ip-sysctl.rst: ip_local_reserved_ports)."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        low, _, high = part.partition("-")
        found.update(range(int(low), int(high or low) + 1))
    return found


def crowded(sockets: Iterable[Socket], available: int) -> list[tuple[Crowd, int]]:
    """Return the ways that use nearly all ports, fullest first, each with a socket's inode or 0."""
    ways: dict[_Way, dict[int, Socket]] = {}
    for one in sockets:
        if one.remote[1]:
            ways.setdefault((one.local[0], *one.remote), {})[one.local[1]] = one
    found = []
    for way, ports in ways.items():
        if len(ports) >= max(1.0, CROWDED * available):
            waiting = sum(one.state == _TIME_WAIT for one in ports.values())
            inode = next((one.inode for one in ports.values() if one.inode), 0)
            found.append((Crowd(*way, len(ports), waiting), inode))
    found.sort(key=lambda each: (-each[0].used, each[0].destination))
    return found[:_MOST]


def _sockets_there_are() -> int:
    """Return how many TCP sockets this namespace has, those in TIME_WAIT with them."""
    count = 0
    for name in ("sockstat", "sockstat6"):
        try:
            with open(f"{PROC_NET}/{name}", encoding="utf-8") as file:
                for line in file:
                    words = line.split()
                    if words and words[0] in ("TCP:", "TCP6:"):
                        pairs = dict(zip(words[1::2], words[2::2]))
                        count += int(pairs.get("inuse", 0)) + int(pairs.get("tw", 0))
        except FileNotFoundError:  # no IPv6 in this kernel
            continue
        except (OSError, ValueError) as error:
            raise Unreadable(f"/proc/net/{name}: {error}") from error
    return count
