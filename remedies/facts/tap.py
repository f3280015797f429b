"""What the packet tap hears while the window lasts: resets and refusals, and whose they were.

The hearing itself is :mod:`remedies.tap`, which ``remedy trace`` shares.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Optional

from remedies.facts import Asking, Unwatched, Watch
from remedies.netlink.flow import Flow
from remedies.tap.listener import Listener
from remedies.tap.lookups import Questions
from remedies.tap.origin import FORWARDED
from remedies.tap.packets import REFUSED, RESET
from remedies.tap.whose import whose
from remedies.values import dataclass

if TYPE_CHECKING:
    from remedies.tap.tally import TallyEntry

_BLOCKS = 16  # 1 MiB: some 6,000 packets between two looks
_MOST_TUPLES = 1000
_PER_SECOND = 1000.0


@dataclass(frozen=True)
class Reset:
    """A reset that left, and the NAT flow that it answers for, if any."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    count: int
    flow: Optional[Flow] = None
    """The flow one of whose directions runs destination -> source of this reset.

    A flow that NAT rewrites is named only where the end that the segment was really for is not
    here: a reset of a local program leaves by the same addresses as its own flow's.
    """
    answers: Optional[bool] = None
    """TCP made it as its answer to a segment; False: a firewall's REJECT did, or a socket that
    ended its connection; None: it cannot be told (see :mod:`remedies.tap.origin`)."""
    acknowledges: bool = False
    """It has ACK: it answers a SYN, or comes from a socket that ended its connection."""
    forgotten: bool = False
    """It answers a segment in the middle of a connection of which conntrack holds no flow: it has
    forgotten it, or never saw it."""


@dataclass(frozen=True)
class Unreachable:
    """A UDP datagram of ours whose receiver answered *port unreachable*."""

    source: str
    """Local address and port that the datagram left from."""
    source_port: int
    destination: str
    destination_port: int
    count: int
    request: Optional[Flow] = None
    """The flow by which that receiver had asked another local address on the same port, without
    a reply: the datagram was the answer, and proves ``udp-reply-source``."""


@dataclass(frozen=True)
class Tap:
    """What the packet socket heard."""

    resets: tuple[Reset, ...] = ()
    heard: int = 0
    lost: int = 0
    """Packets the kernel dropped for want of buffer (PACKET_STATISTICS)."""
    listened: float = 0.0
    """Seconds; 0: the window was 0 and nothing was heard because nobody listened."""
    forwarded: int = 0
    """Resets and refusals that others sent through this namespace: not in ``heard``."""
    unread: tuple[str, ...] = ()
    refusals: tuple[Unreachable, ...] = ()
    unexamined: int = 0
    """Packets of a flood that were counted and not looked at."""


class _TapListener:
    """The tap, and what conntrack says about what it hears."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._questions = Questions()
        self._tap = Listener(blocks=_BLOCKS, limit=_MOST_TUPLES, rate=_PER_SECOND)

    def fileno(self) -> int:
        return self._tap.fileno()

    def hear(self) -> None:
        """Take what has arrived, a bounded number at once so that a flood cannot hold us."""
        for entry in self._tap.hear():
            self._ask(entry)

    def finish(self) -> Tap:
        for entry in self._tap.drain():
            self._ask(entry)
        lost = self._tap.lost()
        listened = time.monotonic() - self._begin
        tally = self._tap.tally
        self.close()
        return Tap(
            resets=tuple(
                Reset(
                    *e.heard.way.parts,
                    count=e.count,
                    flow=e.flow,
                    answers=e.answers,
                    acknowledges=e.heard.acknowledges,
                    forgotten=e.untracked,
                )
                for e in tally.entries()
                if e.group == RESET
            ),
            heard=tally.totals.get(RESET, 0),
            lost=lost,
            listened=round(listened, 3),
            forwarded=tally.totals.get(FORWARDED, 0),
            unread=(*self._questions.unread, *self._tap.unread()),
            refusals=tuple(
                Unreachable(*e.heard.way.parts, count=e.count, request=e.flow)
                for e in tally.entries()
                if e.group == REFUSED and e.heard.protocol == "udp"
            ),
            unexamined=tally.unexamined,
        )

    def close(self) -> None:
        self._tap.close()
        self._questions.close()

    def _ask(self, entry: TallyEntry) -> None:
        """Find the flow that a packet speaks of, now: it may be gone when the window ends."""
        heard, flow = entry.heard, None
        local = self._tap.origin.local()
        if heard.event == RESET:
            incoming = heard.way.reversed
            flow = self._questions.flow("tcp", incoming)
            entry.untracked = flow is None and self._questions.open and not heard.acknowledges
            if flow is not None and flow.nat:
                judged = whose(heard.way, flow, local, answers=entry.answers)
                # Without an end elsewhere the reset speaks for who got the segment, as it should.
                flow = None if judged.whose in ("own", "here") else flow
        elif heard.event == REFUSED and heard.protocol == "udp":
            flow = self._questions.other_request(heard.way, local)
        entry.flow = flow


def watch(asking: Asking) -> Watch[Tap]:
    """Begin to listen; with a window of 0 nobody listens.

    Raises Unreadable where a packet socket may not be made.
    """
    return _TapListener() if asking.window > 0 else Unwatched(Tap())
