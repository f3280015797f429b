"""Requests for ports of this host as they arrive, so that an answer is proven without conntrack.

Nothing is heard before a client has refused an answer that conntrack says nothing about: from then
on what arrives for the port that the answer came from, and what this client sends to any port (an
answer may come from another port than the one asked). The client's next try is heard whole.
"""

from __future__ import annotations

import time
from typing import Optional, TypeVar

from remedies.errors import Unreadable
from remedies.netlink.flow import Flow, Tuple
from remedies.tap import segments
from remedies.tap.ring import Ring

_BLOCKS = 16  # 1 MiB: some 6,000 packets
_AT_ONCE = 8
_MOST = 32
"""Ports, and clients, that are heard."""
_WAYS = 32
_ENDS = 4096
_BETWEEN = 0.05
"""Seconds between two looks that wait for the kernel's block."""


class RequestsHeard:
    """A packet socket that is opened when the first port is named. Bounded in memory."""

    def __init__(self) -> None:
        """Hear nothing yet."""
        self._ring: Optional[Ring] = None
        self._ports: dict[int, None] = {}
        self._clients: dict[str, None] = {}
        self._asked: dict[tuple[str, int], list[Tuple]] = {}
        self._drained = float("-inf")
        self.unread: dict[str, None] = {}

    def fileno(self) -> int:
        """Return the descriptor to poll, -1 while nothing is heard."""
        return -1 if self._ring is None else self._ring.fileno()

    def listen(self, refused: Tuple) -> None:
        """Hear what a refused datagram of ours may answer, too; what is named last is heard."""
        port, client = refused.source_port, refused.destination
        if port in self._ports and client in self._clients:
            return
        _add(self._ports, port)
        _add(self._clients, client)
        program = segments.datagrams(tuple(self._ports), tuple(self._clients))
        try:
            if self._ring is None:
                self._ring = Ring(program, _BLOCKS)
            else:
                self._ring.refilter(program)
        except (OSError, Unreadable) as error:
            self.unread[f"UDP requests: {error}"] = None

    def hear(self) -> None:
        """Take what has arrived, a bounded number at once."""
        if self._ring is not None:
            for packet in self._ring.read(_AT_ONCE):
                self._take(packet.content, packet.outgoing)

    def requests_of(self, client: str, port: int) -> tuple[Flow, ...]:
        """Return what a client has asked from one port of its own, as flows without a reply.

        What was sent before this call is taken first, but not for each one of a flood.
        """
        now = time.monotonic()
        if self._ring is not None and now - self._drained > _BETWEEN:
            self._drained = now
            for packet in self._ring.drain():
                self._take(packet.content, packet.outgoing)
        ways = self._asked.get((client, port), [])
        return tuple(Flow("udp", way, way.reversed, seen_reply=False, nat=False) for way in ways)

    def _take(self, content: bytes, outgoing: bool) -> None:
        whole = None if outgoing else segments.way_of(content)
        if whole is None:
            return
        way = segments.spell(whole)
        if way.destination_port not in self._ports and way.source not in self._clients:
            return
        client = way.source, way.source_port
        known = self._asked.setdefault(client, [])
        if way not in known and len(known) < _WAYS:
            known.append(way)
        if len(self._asked) > _ENDS:
            del self._asked[next(iter(self._asked))]

    def close(self) -> None:
        """Stop hearing; safe to repeat."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None


_Key = TypeVar("_Key")


def _add(heard: dict[_Key, None], key: _Key) -> None:
    """Put a key last, in place of the first where there are too many."""
    heard.pop(key, None)
    if len(heard) >= _MOST:
        del heard[next(iter(heard))]
    heard[key] = None
