"""Queues of sockets that were full: what the kernel refused to put into them within the window.

A socket's own counter of drops (SK_MEMINFO_DROPS) says whose packets were lost, and not why: a
wrong checksum and a socket filter count, too. The namespace's counters say why, and not whose:
``InErrors`` of UDP counts every such drop and ``RcvbufErrors`` those of a full buffer;
``ListenDrops`` every SYN and handshake that a listener lost and ``ListenOverflows`` those of a full
accept queue.
What a socket lost beyond the drops of other causes was lost for want of room, whoever they hit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional, Union

from remedies.errors import Unreadable
from remedies.facts import Asking, Unwatched, counters, processes, sysctl
from remedies.facts.process import Process
from remedies.netlink.diag import Socket, with_queue
from remedies.netlink.socket import NETLINK_SOCK_DIAG, Netlink
from remedies.printable import at
from remedies.values import NamedTuple, dataclass, field, replace

LIMITS = ("net.core.rmem_default", "net.core.rmem_max", "net.core.somaxconn")
_MOST = 16
"""Queues that are named, those that lost most first."""


class Cause(NamedTuple):
    """Which counters tell what was lost for want of room from everything that was lost."""

    full: tuple[str, ...]
    all: tuple[str, ...]


CAUSES = {
    "udp": Cause(("Udp.RcvbufErrors", "Udp6.RcvbufErrors"), ("Udp.InErrors", "Udp6.InErrors")),
    "tcp": Cause(("TcpExt.ListenOverflows",), ("TcpExt.ListenDrops",)),
}
"""By protocol: udp_queue_rcv_one_skb() in net/ipv4/udp.c; tcp_conn_request() in
net/ipv4/tcp_input.c and tcp_v4_syn_recv_sock() in net/ipv4/tcp_ipv4.c."""


@dataclass(frozen=True)
class Queue:
    """The queue of one socket that was full within the window."""

    protocol: str
    """``udp``: bytes of datagrams that wait to be read; ``tcp``: connections that wait to be
    accepted."""
    address: str
    port: int
    lost: int
    """Datagrams, or SYNs and handshakes, that it had no room for, at least."""
    waiting: int
    """Bytes, or connections, in it at the end of the window."""
    limit: int
    inode: int = 0
    family: int = 4
    """4 or 6: of the socket."""
    owner: Optional[Process] = None

    @property
    def place(self) -> str:
        """Return protocol, address and port for people."""
        anywhere = self.address in ("0.0.0.0", "::")  # noqa: S104 - named, not bound
        return f"{self.protocol} {f'*:{self.port}' if anywhere else at(self.address, self.port)}"

    @property
    def who(self) -> str:
        """Return the program for people."""
        owner = self.owner
        return f"{owner.name} (process {owner.pid})" if owner is not None else "a program"

    @property
    def details(self) -> dict[str, str]:
        """Return the socket and its program as a finding's details."""
        found = {"address": self.address, "port": str(self.port)}
        if self.owner is not None:
            found["process"], found["pid"] = self.owner.name, str(self.owner.pid)
            found["unit"], found["container"] = self.owner.unit, self.owner.container
        return found


@dataclass(frozen=True)
class Queues:
    """What sockets of this namespace lost within the window because a queue was full."""

    full: tuple[Queue, ...] = ()
    counted: dict[str, int] = field(default_factory=dict)
    """How far the namespace's counters moved: ``Udp.RcvbufErrors`` and the others."""
    limits: dict[str, int] = field(default_factory=dict)
    """The sysctls of :data:`LIMITS` that this namespace shows, read where something was lost."""
    unread: tuple[str, ...] = ()

    def of(self, protocol: str) -> tuple[Queue, ...]:
        """Return the full queues of a protocol."""
        return tuple(queue for queue in self.full if queue.protocol == protocol)

    def lost(self, protocol: str) -> int:
        """Return how many packets full queues of a protocol lost, whether named or not."""
        return sum(self.counted.get(key, 0) for key in CAUSES[protocol].full)


def watch(asking: Asking) -> Union[Unwatched[Queues], _QueueWatch]:
    """Take the first reading; with a window of 0 nothing is said to have been lost."""
    return _QueueWatch(asking) if asking.window > 0 else Unwatched(Queues())


_Key = tuple[int, tuple[str, int], tuple[str, int]]


class _QueueWatch:
    """Counters before sockets at the beginning, and after them at the end.

    So no drop of a socket is without the counter that says why.
    """

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._first = _counters()
        self._dropped: dict[str, dict[_Key, int]] = {}
        self._unread: dict[str, str] = {}
        for protocol in CAUSES:
            try:
                sockets = _sockets(protocol, asking)
                self._dropped[protocol] = {key: _drops(one) for key, one in sockets.items()}
            except Unreadable as error:
                self._unread[protocol] = str(error)

    def fileno(self) -> int:
        return -1

    def hear(self) -> None:
        """Nothing arrives."""

    def finish(self) -> Queues:
        moved = _moved(self._first, _counters())
        protocols = [p for p, cause in CAUSES.items() if any(moved.get(k) for k in cause.full)]
        if not protocols:
            return Queues()
        sockets: dict[str, dict[_Key, Socket]] = {}
        for protocol in protocols:
            try:
                sockets[protocol] = _sockets(protocol, self._asking)
            except Unreadable as error:
                self._unread[protocol] = str(error)
        moved = _moved(self._first, _counters())
        found = [
            queue
            for protocol in protocols
            if protocol in self._dropped and protocol in sockets
            for queue in _full(protocol, self._dropped[protocol], sockets[protocol], moved)
        ]
        found.sort(key=lambda queue: -queue.lost)
        seen, unread = processes.look_up(
            {queue.inode: queue.family for queue in found[:_MOST]}, self._asking.deadline()
        )
        return Queues(
            full=tuple(
                replace(queue, owner=seen[queue.inode].owner if queue.inode in seen else None)
                for queue in found[:_MOST]
            ),
            counted=moved,
            limits=_limits(),
            unread=(*(self._unread[p] for p in protocols if p in self._unread), *unread),
        )

    def close(self) -> None:
        """Nothing is held."""


def _full(
    protocol: str,
    before: Mapping[_Key, int],
    sockets: Mapping[_Key, Socket],
    moved: Mapping[str, int],
) -> Iterable[Queue]:
    """Yield the queues that lost more than everything that was lost for another reason."""
    cause = CAUSES[protocol]
    other = sum(moved.get(key, 0) for key in cause.all) - sum(
        moved.get(key, 0) for key in cause.full
    )
    for key, one in sockets.items():
        lost = _drops(one) - before.get(key, 0) - max(0, other)
        if lost > 0 and one.memory is not None:
            udp = protocol == "udp"
            yield Queue(
                protocol=protocol,
                address=one.local[0],
                port=one.local[1],
                lost=lost,
                waiting=one.memory.receive if udp else one.receive_queue,
                limit=one.memory.receive_limit if udp else one.send_queue,
                inode=one.inode,
                family=6 if ":" in one.local[0] else 4,
            )


def _sockets(protocol: str, asking: Asking) -> dict[_Key, Socket]:
    """Return the sockets that have ever dropped something. Raises Unreadable."""
    try:
        with Netlink(NETLINK_SOCK_DIAG, asking.deadline()) as client:
            return {
                (one.inode, one.local, one.remote): one
                for one in with_queue(client, protocol)
                if _drops(one)
            }
    except OSError as error:
        raise Unreadable(f"{protocol} sockets (sock_diag): {error.strerror}") from error


def _drops(one: Socket) -> int:
    return one.memory.drops if one.memory is not None else 0


def _counters() -> dict[str, int]:
    """Return every counter of :data:`CAUSES` now. Raises Unreadable."""
    wanted = frozenset(key for cause in CAUSES.values() for key in (*cause.full, *cause.all))
    try:
        return counters.wanted_now(wanted)
    except OSError as error:
        raise Unreadable(f"{error.filename}: {error.strerror}") from error


def _moved(first: Mapping[str, int], last: Mapping[str, int]) -> dict[str, int]:
    return {key: last[key] - value for key, value in first.items() if key in last}


def _limits() -> dict[str, int]:
    """Return the limits that this namespace shows; older kernels show some in the first alone."""
    found = {}
    for key in LIMITS:
        try:
            found[key] = int(sysctl.value(key))
        except (OSError, ValueError):
            continue
    return found
