"""UDP requests that came for some ports while we listened, and whether they were answered.

Heard on a packet socket, before any rule drops a request and after every rule has let an answer
out: a request that a firewall eats leaves no entry in conntrack. An answer is what leaves from the
port that was asked to the client that asked, by whichever address: on a bridge a request may be
heard as NAT has left it, and an answer from the wrong address is the detectors' to prove.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from remedies.facts import Asking, Watch
from remedies.facts.flows import Tuple
from remedies.values import dataclass

if TYPE_CHECKING:
    from remedies.tap.ring import Packet

TOPIC = "asked/"
"""Topics of :class:`~remedies.facts.Asking`: ``asked/PORT`` for each port to listen to."""
_BLOCKS = 4
_AT_ONCE = 4
_MOST = 1000
_PORTS = 64


@dataclass(frozen=True)
class Request:
    """What one client asked of one address and port."""

    way: Tuple
    link: str
    """Name of the interface that it came by; empty where it is gone."""
    answered: bool
    age: float
    """Seconds from the first request to the end."""
    count: int = 1
    """How often it was asked."""


@dataclass(frozen=True)
class Asked:
    """The requests that were heard."""

    requests: tuple[Request, ...] = ()
    listened: float = 0.0
    """Seconds; 0: nobody listened."""


class _Silent:
    """The watch of a window of 0, or of no port."""

    def fileno(self) -> int:
        return -1

    def hear(self) -> None:
        """Nothing arrives."""

    def finish(self) -> Asked:
        return Asked()

    def close(self) -> None:
        """Nothing is held."""


class _Listening:
    """The packet socket, and who asked."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        from remedies.tap import segments
        from remedies.tap.ring import Ring

        self._begin = time.monotonic()
        self._ports = frozenset(ports)
        self._first: dict[bytes, tuple[float, int]] = {}
        self._count: dict[bytes, int] = {}
        self._answered: set[bytes] = set()
        self._ring = Ring(segments.datagrams(ports), _BLOCKS)

    def fileno(self) -> int:
        return self._ring.fileno()

    def hear(self) -> None:
        """Take what has arrived, a bounded number at once."""
        self._take(self._ring.read(_AT_ONCE))

    def _take(self, packets: Iterable[Packet]) -> None:
        from remedies.tap.segments import turned, way_of

        for packet in packets:
            way = way_of(packet.content)
            if way is None:
                continue
            port = struct.unpack(">H", way[-4:-2] if packet.outgoing else way[-2:])[0]
            if port not in self._ports:
                continue
            if packet.outgoing:
                self._answered.add(turned(way))
            elif way in self._first:
                self._count[way] += 1
            elif len(self._first) < _MOST:
                self._first[way], self._count[way] = (packet.time, packet.link), 1

    def finish(self) -> Asked:
        from remedies.tap.segments import spell

        self._take(self._ring.drain())
        self.close()
        now = time.time()
        answered = {Tuple(*spell(way)) for way in self._answered}
        clients = {(way.source, way.source_port) for way in answered}
        requests = tuple(
            Request(
                asked := Tuple(*spell(way)),
                _name(link),
                (asked.source, asked.source_port) in clients,
                now - first,
                self._count[way],
            )
            for way, (first, link) in self._first.items()
        )
        return Asked(requests, round(time.monotonic() - self._begin, 3))

    def close(self) -> None:
        self._ring.close()


def _name(link: int) -> str:
    import socket

    try:
        return socket.if_indextoname(link)
    except OSError:
        return ""


def watch(asking: Asking) -> Watch[Asked]:
    """Begin to listen to the ports of the topics; raise Unreadable where none may be made."""
    named = (topic[len(TOPIC) :] for topic in asking.topics if topic.startswith(TOPIC))
    ports = tuple(sorted(int(port) for port in named if port.isdigit()))
    return _Listening(ports[:_PORTS]) if ports and asking.window > 0 else _Silent()
