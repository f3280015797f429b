"""TCP connections that do not go on: what arrived for them here, and neither left nor was answered.

Heard on a packet socket, which hears before any rule drops; :mod:`remedies.tap.streams` says what
counts. Whether a rule of ours is to blame says its counter (:mod:`remedies.status.harm`). On a host
too busy to be heard whole, every second connection is heard, then every fourth, and so on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Optional

from remedies.facts import Asking, Unwatched, Watch
from remedies.facts.ring_watch import SharedRingWatch
from remedies.netlink.flow import Flow, Tuple
from remedies.tap import segments
from remedies.tap.lookups import Questions
from remedies.tap.origin import Origin
from remedies.tap.ring import Packet
from remedies.tap.segments import written
from remedies.tap.streams import DATA, Streams, Suspect
from remedies.values import dataclass

_BLOCKS = 32  # 2 MiB: some 15,000 segments between two looks
_AT_ONCE = 16
_CONNECTIONS = 20_000
_ASKED = 256
"""Connections that conntrack is asked about when the window ends."""


@dataclass(frozen=True)
class Stall:
    """One direction of a connection that does not go on."""

    way: Tuple
    kind: str
    """A word of :mod:`remedies.tap.streams`: why it does not."""
    count: int
    """Segments that went nowhere."""
    again: int = 0
    """How often data was sent again."""
    flow: Optional[Flow] = None
    """What conntrack has for it; None: nothing."""
    link: Optional[int] = None
    """Index of the link by which it arrives."""


@dataclass(frozen=True)
class Stalls:
    """What was heard of TCP."""

    found: tuple[Stall, ...] = ()
    """Most segments first; at most 256."""
    listened: float = 0.0
    """Seconds; 0: nobody listened."""
    share: int = 0
    """One connection in 2**share was heard."""
    unread: tuple[str, ...] = ()


class _SegmentListener(SharedRingWatch):
    """What is said on each connection."""

    def __init__(self) -> None:
        self._streams = Streams(_CONNECTIONS)
        super().__init__(segments.program, _BLOCKS, _AT_ONCE)

    def _take(self, packets: Iterable[Packet]) -> None:
        take = self._streams.take
        for packet in packets:
            said = segments.segment_of(packet.content)
            if said is not None:
                take(said, packet.outgoing, packet.link, packet.time)
        if self._begins_anew():
            self._streams.forget()

    def finish(self) -> Stalls:
        listened = self._rest()
        origin = Origin()
        suspects = sorted(
            self._streams.suspects(time.time(), origin.local()), key=lambda s: -s.segments
        )
        questions = Questions()
        try:
            asked = ((s, questions.flow("tcp", s.way)) for s in suspects[:_ASKED])
            found = tuple(
                Stall(s.way, s.kind, s.segments, s.again, flow, s.link)
                for s, flow in asked
                if not passed_on(self._streams, s, flow, self._share)
            )
        finally:
            questions.close()
        unread = [*origin.unread, *questions.unread]
        if len(suspects) > _ASKED:
            unread.append(
                f"only {_ASKED} of {len(suspects)} stalled TCP connections were looked up"
            )
        return Stalls(found, listened, self._share, tuple(unread))


def passed_on(streams: Streams, suspect: Suspect, flow: Optional[Flow], share: int) -> bool:
    """Tell whether data left under the name that NAT gives it: its receiver is silent then.

    NAT leaves sequence numbers as they are. What leaves by other ports may be of a share that is
    not heard: it counts as passed on.
    """
    if flow is None or not flow.nat or suspect.kind != DATA:
        return False
    other = (flow.reply if suspect.way == flow.original else flow.original).reversed
    ports = {(way.source_port + way.destination_port) >> 1 for way in (suspect.way, other)}
    return (share > 0 and len(ports) > 1) or streams.left(written(other), suspect.end)


def watch(asking: Asking) -> Watch[Stalls]:
    """Begin to listen; with a window of 0 nobody listens.

    Raises Unreadable where a packet socket may not be made.
    """
    return _SegmentListener() if asking.window > 0 else Unwatched(Stalls())
