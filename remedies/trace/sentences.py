"""What conntrack itself says of packets while a trace lasts: each kind once, then counted.

Nothing waits for it: what was said is in the socket's buffer before the packet is dropped, or
answered with a reset, and is taken out when that is told. What the buffer cannot hold is counted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Optional

from remedies.errors import Unreadable
from remedies.netfilter.packet_log import PacketLog
from remedies.netlink.flow import Tuple
from remedies.trace.drops import without_port_of_client
from remedies.trace.event import FLAGS, Sentence
from remedies.values import replace

_MOST = 1024
"""Kinds that are told apart."""
_MOST_WAYS = 4096
"""Ways of packets whose last sentence is remembered."""
_NUMBER = re.compile(r"\d+")

_Kind = tuple[str, Optional[Tuple], str]


class Sentences:
    """Takes conntrack's sentences from a log, where there is one; else there are none."""

    def __init__(self, log: Optional[PacketLog], takes: Callable[[str, Optional[Tuple]], bool]):
        """Take nothing yet; ``takes`` tells by protocol and way which packets are of interest."""
        self._log, self._takes = log, takes
        self.unread: dict[str, None] = {}
        self.packets = 0
        self._kinds: dict[_Kind, Sentence] = {}
        self._new: list[_Kind] = []
        self._last: dict[tuple[str, Tuple], str] = {}

    def hear(self) -> None:
        """Take in what was said since the last look."""
        if self._log is None:
            return
        try:
            for said in self._log.read():
                if self._takes(said.protocol, said.way):
                    names = (name for bit, name in enumerate(FLAGS) if said.flags >> bit & 1)
                    self._keep(
                        Sentence(
                            time.time(), said.sentence, said.protocol, said.way, " ".join(names)
                        )
                    )
        except Unreadable as error:
            self.unread[f"conntrack's sentences: {error}"] = None

    def _keep(self, said: Sentence) -> None:
        self.packets += 1
        ends = said.protocol, said.way
        if ends in self._last or len(self._last) < _MOST_WAYS:
            self._last[ends] = said.text
        way = without_port_of_client(said.way)
        kind = said.protocol, way, _NUMBER.sub("0", said.text)
        known = self._kinds.get(kind)
        if known is not None:
            self._kinds[kind] = replace(known, count=known.count + 1)
        elif len(self._kinds) < _MOST:
            self._kinds[kind] = said
            self._new.append(kind)

    def of(self, protocol: str, way: Optional[Tuple]) -> str:
        """Return what was said last of packets that go this way; empty: nothing."""
        return self._last.get((protocol, way), "") if way is not None else ""

    def new(self) -> Iterator[Sentence]:
        """Yield the kinds that were not told yet."""
        told, self._new = self._new, []
        for kind in told:
            yield self._kinds[kind]

    def top(self, most: int) -> tuple[Sentence, ...]:
        """Return the kinds with most packets."""
        return tuple(sorted(self._kinds.values(), key=lambda said: -said.count)[:most])

    def lost(self) -> int:
        """Return how many packets' sentences found no room."""
        return self._log.lost() if self._log is not None else 0
