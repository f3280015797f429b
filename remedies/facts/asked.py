"""UDP requests that came for some ports while we listened, and what became of each.

Heard on a packet socket, before any rule drops a request and after every rule has let an answer
out. An answer is what leaves from the port that was asked to the client that asked, by whichever
address: on a bridge a request may be heard as NAT has left it, and an answer from the wrong address
is the detectors' to prove.

A receiver that never answers (syslog, statsd) is no fault, so conntrack is asked about the others.
It confirms a flow behind every input rule (nf_confirm(), net/netfilter/nf_conntrack_proto.c, runs
last on local-in): a request without a flow was dropped before it reached a socket. And it marks a
flow as replied before any output filter: a replied flow whose answer did not leave had it dropped.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable
from typing import Optional

from remedies.facts import Asking, Unwatched, Watch
from remedies.facts.ring_watch import RingWatch
from remedies.netlink.flow import Flow, Tuple
from remedies.tap import segments
from remedies.tap.lookups import Questions
from remedies.tap.ring import Packet
from remedies.tap.segments import reversed_way, spell, way_of
from remedies.values import dataclass

TOPIC = "asked/"
"""Topics of :class:`~remedies.facts.Asking`: ``asked/PORT`` for each port to listen to."""
_BLOCKS = 4
_AT_ONCE = 4
_MOST = 1000
_PORTS = 64
_ASKED = 256
"""Clients about whom conntrack is asked: when they are first heard, and when the window ends."""

ANSWERED, TAKEN, DROPPED, MISSED, UNSENT, UNMOVED, UNKNOWN = (
    "answered", "taken", "dropped", "missed", "unsent", "unmoved", "unknown",
)  # fmt: skip
"""What became of a request: an answer left; a socket took it and said nothing; it was dropped
before it reached a socket; NAT sent it where no socket takes it, away from one that would; its
answer was dropped; NAT did not change where it goes; it cannot be told."""


@dataclass(frozen=True)
class Request:
    """What one client asked of one address and port."""

    way: Tuple
    link: str
    """Name of the interface that it came by; empty where it is gone."""
    end: str
    """A word of this module: what became of it."""
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
    unread: tuple[str, ...] = ()


def outcome(
    answered: bool, first: Optional[Flow], last: Optional[Flow], taken: Optional[bool]
) -> str:
    """Return what became of a request.

    ``first`` and ``last`` are its flow when it was first heard and when the window ended, None
    where conntrack has none. ``taken``: whether a socket takes what NAT made of it; None where it
    cannot be told, or where no socket takes it as the client sent it either.

    A flow that was replied before is no proof that its answers are dropped now: ASSURED says so,
    which a UDP flow becomes once it has gone both ways for two seconds (nf_conntrack_proto_udp.c).
    """
    flow = last or first
    if flow is None:
        return ANSWERED if answered else DROPPED
    if _goes_to(flow) == (flow.original.destination, flow.original.destination_port):
        return UNMOVED
    if answered:
        return ANSWERED
    if flow.seen_reply:
        return UNKNOWN if first is not None and first.assured else UNSENT
    return UNKNOWN if taken is None else TAKEN if taken else MISSED


def _goes_to(flow: Flow) -> tuple[str, int]:
    """Return address and port to which NAT sends the requests of a flow."""
    return flow.reply.source, flow.reply.source_port


class _RequestListener(RingWatch):
    """Who asked, and what conntrack has for it."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._ports = frozenset(ports)
        self._first: dict[bytes, tuple[float, int]] = {}
        self._count: dict[bytes, int] = {}
        self._answered: set[bytes] = set()
        self._flows: dict[bytes, Optional[Flow]] = {}
        self._questions = Questions()
        super().__init__(segments.datagrams(ports), _BLOCKS, _AT_ONCE)

    def _take(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            way = way_of(packet.content)
            if way is None:
                continue
            port = struct.unpack(">H", way[-4:-2] if packet.outgoing else way[-2:])[0]
            if port not in self._ports:
                continue
            if packet.outgoing:
                self._answered.add(reversed_way(way))
            elif way in self._first:
                self._count[way] += 1
            elif len(self._first) < _MOST:
                self._first[way], self._count[way] = (packet.time, packet.link), 1
                if len(self._flows) < _ASKED:
                    self._flows[way] = self._flow(spell(way))

    def _flow(self, way: Tuple) -> Optional[Flow]:
        """Return the flow of a request, as its client sent it or as NAT has left it."""
        questions = self._questions
        return questions.flow("udp", way) or questions.flow("udp", way.reversed)

    def finish(self) -> Asked:
        listened = self._rest()
        now = time.time()
        answered = {spell(way) for way in self._answered}
        clients = {(way.source, way.source_port) for way in answered}
        requests = []
        for way, (first, link) in self._first.items():
            asked = spell(way)
            served = (asked.source, asked.source_port) in clients
            whole, end = self._outcome(way, asked, link, served)
            requests.append(Request(whole, _name(link), end, now - first, self._count[way]))
        unread = list(self._questions.unread)
        if len(self._first) > _ASKED:
            unread.append(f"UDP requests: {_ASKED} of {len(self._first)} were looked up")
        self.close()
        return Asked(tuple(requests), listened, tuple(unread))

    def _outcome(self, way: bytes, asked: Tuple, link: int, answered: bool) -> tuple[Tuple, str]:
        """Return a request as its client sent it, where conntrack knows, and what became of it."""
        first = self._flows.get(way)
        last = self._flow(asked) if way in self._flows else None
        if way not in self._flows or not self._questions.open:
            return asked, ANSWERED if answered else UNKNOWN
        flow, taken = last or first, None
        if flow is None:
            return asked, outcome(answered, None, None, None)
        if not answered and not flow.seen_reply:
            client = (flow.original.source, flow.original.source_port)
            sent = (flow.original.destination, flow.original.destination_port)
            if self._questions.takes_udp(_goes_to(flow), client, link):
                taken = True
            elif self._questions.takes_udp(sent, client, link):
                taken = False
        return flow.original, outcome(answered, first, last, taken)

    def close(self) -> None:
        """Release everything; safe to repeat."""
        super().close()
        self._questions.close()


def _name(link: int) -> str:
    try:
        return socket.if_indextoname(link)
    except OSError:
        return ""


def watch(asking: Asking) -> Watch[Asked]:
    """Begin to listen to the ports of the topics; raise Unreadable where none may be made."""
    named = (topic[len(TOPIC) :] for topic in asking.topics if topic.startswith(TOPIC))
    ports = tuple(sorted(int(port) for port in named if port.isdigit()))
    return _RequestListener(ports[:_PORTS]) if ports and asking.window > 0 else Unwatched(Asked())
