"""TCP connections as they are heard, and which of them do not go on. Pure.

What one end sends, the other end acknowledges (RFC 9293, 3.8.6): data that arrives here and is
acknowledged by nobody has been lost behind the packet socket, which hears it before any rule does.
A segment that is passed on unchanged is heard a second time, as it leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from remedies.netlink.flow import Tuple
from remedies.tap.segments import ACK, FIN, RST, SYN, Segment, reversed_way, spell
from remedies.values import NamedTuple

AGAIN = 0.3
"""Seconds that data which was sent again may wait for its acknowledgment. That is put off for 0.2 s
at most (TCP_DELACK_MAX, include/net/tcp.h), and data is not sent again before."""
ONCE = 0.7
"""Seconds that data which was sent once may wait: the way to the other end comes on top."""
UNSURE = 2
"""How often data has to be sent again where no acknowledgment says what its other end waits for."""
_HALF = 1 << 31

DATA, HANDSHAKE, SYN_ACK, PASSING = "data", "handshake", "syn-ack", "passing"
"""Why a stream does not go on: its data is not acknowledged; its end took a SYN-ACK, and hears
nothing more; its SYN-ACK arrived here and did not leave; nor did what else it sends."""


class Suspect(NamedTuple):
    """One direction of a connection that does not go on."""

    way: Tuple
    kind: str
    segments: int
    """How many of it went nowhere; of data the one that is waited for, as often as it came."""
    again: int = 0
    """How often that was sent again."""
    end: int = 0
    """Last sequence number of the data that is waited for."""
    link: Optional[int] = None
    """By which it arrives."""


def _after(one: int, other: int) -> bool:
    """Tell whether a sequence number comes after another (RFC 9293, 3.4: modulo 2**32)."""
    return one != other and (one - other) % (1 << 32) < _HALF


class _Stream:
    """One direction of a connection, since it was first heard or last got on."""

    __slots__ = (
        "acknowledged", "again", "answered", "end", "ended", "full", "handshake", "head",
        "head_end", "left", "link", "offered", "passing", "says", "since", "syn_acks",
        "tried", "unpassed",
    )  # fmt: skip

    def __init__(self) -> None:
        self.link: Optional[int] = None
        """By which it arrives. A bridge and its port both hand over a packet: the first counts."""
        self.end: Optional[int] = None
        """Sequence number behind its last data."""
        self.acknowledged: Optional[int] = None
        """Up to where its other end has acknowledged it: what that waits for begins here."""
        self.head = self.head_end = 0
        """First and last sequence number of the segment that its other end waits for."""
        self.since: Optional[float] = None
        """When that segment arrived; None: it has not, or it is acknowledged."""
        self.again = 0
        """How often it arrived again."""
        self.full = False
        """Its other end said that it has no room."""
        self.left: Optional[int] = None
        """Sequence number behind what was heard leaving."""
        self.says: Optional[int] = None
        """The acknowledgment that it carried when it last left."""
        self.offered: Optional[int] = None
        """Of a SYN-ACK that leaves: the number that acknowledges it."""
        self.answered = False
        """It took the SYN-ACK of its other end."""
        self.handshake: Optional[float] = None
        """When it took it, until its other end is heard again."""
        self.tried = False
        """Its SYN left here."""
        self.syn_acks = 0
        self.unpassed = 0
        """Segments that arrived since it was last heard leaving, or its other end got on."""
        self.passing = 0.0
        """When the first of them arrived."""
        self.ended: Optional[float] = None
        """When it was ended, by a FIN or a reset."""

    def got_on(self) -> None:
        """Take it that it was heard leaving, or that its other end has moved."""
        self.unpassed = self.syn_acks = 0

    def wait_for(self, said: Segment, time: float) -> None:
        """Take data that arrives, if it is what its other end waits for.

        Data from elsewhere in the stream may be a stray, which nobody waits for. Where no
        acknowledgment was heard yet, the first data that comes is taken for it.
        """
        end = (said.sequence + said.length) % (1 << 32)
        waited = self.acknowledged
        if waited is not None:
            if _after(said.sequence, waited) or not _after(end, waited):
                return
        elif self.since is None:
            waited = said.sequence
        elif said.sequence != self.head:
            return
        if self.since is None:
            self.head, self.head_end, self.since, self.again = waited or 0, end, time, 0
        else:
            self.again += 1

    def acknowledge(self, number: int, window: int) -> None:
        """Take what its other end says."""
        self.full = window == 0
        before, moved = self.acknowledged, False
        if before is None:
            self.acknowledged = number
            moved = number != self.head
        elif _after(number, before):
            self.acknowledged = number
            moved = True
        if moved:
            self.since = None
        if moved or (self.end is not None and not _after(self.end, number)):
            self.got_on()


class Streams:
    """The connections that are heard, at most ``limit`` of them."""

    def __init__(self, limit: int) -> None:
        """Begin with none."""
        self._limit = 2 * limit
        self._streams: dict[bytes, _Stream] = {}
        self.unexamined = 0
        """Segments of connections beyond the limit."""

    def take(self, said: Segment, outgoing: bool, link: int, time: float) -> None:
        """Take one segment that was heard on ``link`` at ``time`` (seconds)."""
        opposite = reversed_way(said.way)
        first = said.flags & (SYN | ACK) == SYN
        stream = self._streams.get(said.way)
        end = (said.sequence + said.length + bool(said.flags & SYN)) % (1 << 32)
        if first and stream is not None and stream.end != end:
            del self._streams[said.way]  # the ports are used again
            self._streams.pop(opposite, None)
            stream = None
        if stream is None:
            if len(self._streams) >= self._limit:
                self.unexamined += 1
                return
            stream = self._streams[said.way] = _Stream()
        other = self._streams.get(opposite)
        if not outgoing:
            if stream.link is None:
                stream.link = link
                stream.acknowledged = stream.acknowledged if other is None else other.says
            elif stream.link != link:
                return
        moved = stream.end is None or _after(end, stream.end)
        if outgoing:
            _leave(stream, other, said, end, moved)
        else:
            _arrive(stream, other, said, time)
        if moved and (said.length or said.flags & SYN):
            stream.end = end
        if said.flags & (FIN | RST) and stream.ended is None:
            stream.ended = time

    def forget(self) -> None:
        """Begin anew: something was not heard, and might have been an answer."""
        self._streams.clear()

    def left(self, way: bytes, number: int) -> bool:
        """Tell whether what ends at a sequence number was heard leaving, by whichever name."""
        stream = self._streams.get(way)
        return stream is not None and stream.left is not None and not _after(number, stream.left)

    def suspects(self, now: float, local: frozenset[str]) -> Iterator[Suspect]:
        """Yield what does not go on at ``now``; ``local``: this host's own addresses.

        NAT changes what is passed on: of a connection whose addresses it rewrites, SYN_ACK and
        PASSING say nothing.
        """
        for way, stream in self._streams.items():
            if stream.link is None:
                continue
            other = self._streams.get(reversed_way(way))
            # What stood still until it was given up counts; what came after that does not.
            end = now if other is None or other.ended is None else other.ended
            found = _judged(spell(way), stream, other, end, local)
            if found is not None:
                yield found._replace(link=stream.link)


def _leave(stream: _Stream, other: Optional[_Stream], said: Segment, end: int, moved: bool) -> None:
    """Take what leaves. Only that reaches the other end, and so acknowledges."""
    stream.got_on()
    if said.flags & ACK:
        stream.says = said.acknowledges
    if stream.left is None or _after(end, stream.left):
        stream.left = end
    if said.flags & (SYN | ACK) == SYN:
        stream.tried = True
    elif said.flags & SYN and stream.link is None:
        stream.offered = end
    if other is None or said.flags & RST:
        return
    if moved and said.length:
        other.got_on()
    if not said.flags & SYN:
        other.handshake = None
    if said.flags & ACK:
        other.acknowledge(said.acknowledges, said.window)


def _arrive(stream: _Stream, other: Optional[_Stream], said: Segment, time: float) -> None:
    if said.length:
        stream.wait_for(said, time)
    if said.flags & (SYN | ACK) == SYN | ACK:
        stream.syn_acks += 1
    if not said.flags & (FIN | RST) and stream.ended is None:
        stream.passing = stream.passing if stream.unpassed else time
        stream.unpassed += 1
    if (
        other is not None
        and other.offered == said.acknowledges
        and said.flags & (ACK | SYN | RST | FIN) == ACK
        and not stream.answered
    ):
        stream.answered, stream.handshake = True, time


def _judged(
    way: Tuple, stream: _Stream, other: Optional[_Stream], now: float, local: frozenset[str]
) -> Optional[Suspect]:
    """Return why a stream does not go on, None where it does or where it cannot be told yet."""
    here = way.destination in local
    passed = stream.left is not None and not _after(stream.head_end, stream.left)
    sure = stream.acknowledged is not None or stream.again >= UNSURE
    waited = 0.0 if stream.since is None else now - stream.since
    if sure and not stream.full and not passed and waited >= (AGAIN if stream.again else ONCE):
        return Suspect(way, DATA, stream.again + 1, stream.again, stream.head_end)
    if stream.syn_acks and (not here or (other is not None and other.tried)):
        if now - stream.passing >= AGAIN:
            return Suspect(way, SYN_ACK, stream.syn_acks)
    elif stream.handshake is not None and now - stream.handshake >= AGAIN:
        return Suspect(way, HANDSHAKE, 1)
    elif not here and stream.unpassed > 1 and now - stream.passing >= AGAIN:
        return Suspect(way, PASSING, stream.unpassed)
    return None
