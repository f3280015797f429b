"""The live session: what this command hangs on when it is given from afar.

Two traces lead to it, and each alone can be missing. An ancestor of this process holds the
connection (sshd, an agent): its established TCP sockets are duplicated (pidfd_getfd(2), Linux
5.6; the program notices nothing) and asked for their ends. And SSH_CONNECTION (ssh(1)) stands in
the environment of this process or of an ancestor: sudo drops it, and a terminal multiplexer,
which has no sshd above it, keeps that of an older login, so the kernel is asked (sock_diag(7))
whether the connection is alive. conntrack is asked for its entry by the exact tuple.
"""

from __future__ import annotations

import itertools
import os
import socket
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Asking, sysctl
from remedies.facts.processes import copy_of
from remedies.netlink import conntrack, conntrack_entry, diag
from remedies.netlink.flow import Tuple
from remedies.netlink.socket import NETLINK_NETFILTER, NETLINK_SOCK_DIAG, Netlink
from remedies.printable import both_ends
from remedies.values import dataclass

RESOLV_CONF = "/etc/resolv.conf"
_MOST = 64
"""Ancestors looked at, and sockets of each."""
_LONGEST = 1 << 18
_LOOSE = "net.netfilter.nf_conntrack_tcp_loose"


Ends = tuple[str, int, str, int]
"""Peer, its port, local address and port: the order of SSH_CONNECTION."""


@dataclass(frozen=True)
class Connection:
    """One TCP connection that ends at this host."""

    peer: str
    peer_port: int
    address: str
    """The local one."""
    port: int
    seen: str
    """How it was told: ``SSH_CONNECTION``, ``socket of sshd (process 512)``."""
    live: bool = True
    """This namespace has the socket; else only a new connection like it is of interest."""
    tracked: Optional[bool] = None
    """conntrack has an entry for it; None: not asked, or not permitted to ask."""
    replied: Optional[bool] = None
    """That entry has seen both directions."""

    @property
    def text(self) -> str:
        """Return both ends for people."""
        return both_ends(self.peer, self.peer_port, self.address, self.port)


@dataclass(frozen=True)
class Session:
    """The connections that this command hangs on, and what every host needs."""

    connections: tuple[Connection, ...] = ()
    nameservers: tuple[str, ...] = ()
    loose: Optional[bool] = None
    """conntrack picks up connections in the middle (nf_conntrack_tcp_loose); None: no such key."""
    unread: tuple[str, ...] = ()


def parse(value: str) -> Optional[Ends]:
    """Return client, its port, server and its port of SSH_CONNECTION; None where it is none."""
    words = value.split()
    if len(words) != 4:
        return None
    try:
        for end in (words[0], words[2]):
            plain = _plain(end)
            socket.inet_pton(socket.AF_INET6 if ":" in plain else socket.AF_INET, plain)
        return _plain(words[0]), int(words[1]), _plain(words[2]), int(words[3])
    except (OSError, ValueError):
        return None


def nameservers(text: str) -> tuple[str, ...]:
    """Return the addresses behind ``nameserver`` (resolv.conf(5))."""
    lines = (line.split() for line in text.splitlines())
    return tuple(words[1] for words in lines if len(words) > 1 and words[0] == "nameserver")


def read(asking: Asking) -> Session:
    """Look for the controlling connections; never raises: what was not seen is in ``unread``."""
    unread: list[str] = []
    found: dict[Ends, str] = {}
    claimed: dict[Ends, str] = {}
    lineage = _lineage()
    if len(lineage) == _MOST:
        unread.append(f"ancestors of this process beyond the first {_MOST}")
    for pid in lineage:
        ends = parse(_environment(pid).get("SSH_CONNECTION", ""))
        if ends is not None:
            claimed.setdefault(ends, "SSH_CONNECTION")
        if pid != os.getpid():
            for ends in _sockets(pid, unread):
                found.setdefault(ends, f"socket of {_name(pid)} (process {pid})")
    connections = [_connection(asking, ends, seen, True, unread) for ends, seen in found.items()]
    connections += [
        _connection(asking, ends, seen, _alive(asking, ends, unread), unread)
        for ends, seen in claimed.items()
        if ends not in found
    ]
    return Session(
        connections=tuple(connections),
        nameservers=nameservers(_text(RESOLV_CONF)),
        loose=_loose(),
        unread=tuple(dict.fromkeys(unread)),
    )


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST)
    except OSError:
        return ""


def _loose() -> Optional[bool]:
    try:
        return sysctl.value(_LOOSE) != "0"
    except OSError:
        return None


def _lineage() -> list[int]:
    """Return this process and its ancestors, nearest first, without process 1."""
    pids = [os.getpid()]
    while len(pids) < _MOST:
        status = _text(f"/proc/{pids[-1]}/status")
        parent = next((int(x.split()[1]) for x in status.splitlines() if x[:5] == "PPid:"), 0)
        if parent <= 1:
            break
        pids.append(parent)
    return pids


def _name(pid: int) -> str:
    return _text(f"/proc/{pid}/comm").strip() or "?"


def _environment(pid: int) -> dict[str, str]:
    """Return a process's environment; empty where it may not be looked at."""
    if pid == os.getpid():
        return dict(os.environ)
    pairs = (entry.partition("=") for entry in _text(f"/proc/{pid}/environ").split("\0"))
    return {name: value for name, _, value in pairs}


def _sockets(pid: int, unread: list[str]) -> list[Ends]:
    """Return the ends of a process's established TCP connections in our namespace."""
    folder = f"/proc/{pid}/fd"
    try:
        here, there = (os.stat(f"/proc/{p}/ns/net") for p in ("thread-self", pid))
        if not os.path.samestat(here, there):
            return []
        held = (
            int(name)
            for name in os.listdir(folder)
            if os.readlink(f"{folder}/{name}").startswith("socket:")
        )
        numbers = list(itertools.islice(held, _MOST + 1))  # others may have thousands
        if len(numbers) > _MOST:
            unread.append(f"sockets of process {pid} beyond the first {_MOST}")
        if not numbers:
            return []
        handle = os.pidfd_open(pid)
    except (FileNotFoundError, ProcessLookupError):  # it ended, or closed one, in between
        return []
    except OSError as error:
        unread.append(f"sockets of process {pid}: {error.strerror}")
        return []
    try:
        return [ends for n in numbers[:_MOST] if (ends := _ends(handle, n, unread)) is not None]
    finally:
        os.close(handle)


def _ends(handle: int, number: int, unread: list[str]) -> Optional[Ends]:
    """Return the ends of one socket, None where it is no established TCP connection."""
    copy = copy_of(handle, number)
    if copy < 0:
        unread.append("sockets of the session: not permitted; run as root")
        return None
    with socket.socket(fileno=copy) as found:
        if found.family not in (socket.AF_INET, socket.AF_INET6) or (
            found.type != socket.SOCK_STREAM
        ):
            return None
        try:
            peer, own = found.getpeername(), found.getsockname()
        except OSError:  # it listens
            return None
    return _plain(peer[0]), peer[1], _plain(own[0]), own[1]


def _plain(address: str) -> str:
    """Return an address without scope, and IPv4 as such (RFC 4291, 2.5.5.2)."""
    address = address.partition("%")[0]
    return address[7:] if address.lower().startswith("::ffff:") and "." in address else address


def _alive(asking: Asking, ends: Ends, unread: list[str]) -> bool:
    peer, peer_port, own, port = ends
    try:
        with Netlink(NETLINK_SOCK_DIAG, asking.deadline()) as client:
            found = diag.by_tuple(client, "tcp", (own, port), (peer, peer_port))
    except (OSError, Unreadable) as error:
        unread.append(f"TCP sockets (sock_diag): {error}")
        return True
    return found is not None and found.remote[1] == peer_port


def _connection(asking: Asking, ends: Ends, seen: str, live: bool, unread: list[str]) -> Connection:
    peer, peer_port, own, port = ends
    tracked, replied = _tracked(asking, ends, unread) if live else (None, None)
    return Connection(peer, peer_port, own, port, seen, live, tracked, replied)


def _tracked(
    asking: Asking, ends: Ends, unread: list[str]
) -> tuple[Optional[bool], Optional[bool]]:
    """Tell whether conntrack has an entry, and whether that has seen both directions.

    Nothing is asked where the table is empty: the request itself would load modules.
    """
    try:
        if sysctl.value("net.netfilter.nf_conntrack_count") == "0":
            return False, None
    except OSError:
        return False, None
    way = Tuple(*ends)
    try:
        with Netlink(NETLINK_NETFILTER, asking.deadline()) as client:
            entry = conntrack.flow_by_tuple(client, "tcp", way)
    except (OSError, Unreadable) as error:
        said = conntrack.not_permitted(error) if isinstance(error, OSError) else error
        unread.append(str(said))
        return None, None
    if entry is None:
        return False, None
    return True, bool(entry.status & conntrack_entry.IPS_SEEN_REPLY)
