"""What the watches of packets share: one ring, taken in small bites while the window lasts."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Callable

from remedies.tap.ring import Packet, Ring

_LEAST_SHARE = 12


class RingWatch(ABC):
    """A packet socket, and how long it was heard; what a packet means is the subclass's.

    Each is a :class:`~remedies.facts.Watch` as soon as it has ``finish``.
    """

    def __init__(self, program: bytes, blocks: int, at_once: int) -> None:
        """Begin to hear what ``program`` lets through, with ``blocks`` blocks of memory.

        ``at_once`` blocks are read between two looks at the other watches. Raises Unreadable where
        a packet socket may not be made.
        """
        self._begin = time.monotonic()
        self._at_once = at_once
        self._ring = Ring(program, blocks)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._ring.fileno()

    def hear(self) -> None:
        """Take what has arrived, a bounded number of packets."""
        self._take(self._ring.read(self._at_once))

    @abstractmethod
    def _take(self, packets: Iterable[Packet]) -> None:
        """Take packets in as they were heard."""

    def _rest(self) -> float:
        """Take what has passed by now and stop hearing; return how many seconds were heard."""
        self._take(self._ring.drain())
        self._ring.close()
        return round(time.monotonic() - self._begin, 3)

    def close(self) -> None:
        """Release everything; safe to repeat."""
        self._ring.close()


class SharedRingWatch(RingWatch):
    """A watch that hears fewer connections where the host is too busy to be heard whole."""

    def __init__(self, program: Callable[[int], bytes], blocks: int, at_once: int) -> None:
        """As :class:`RingWatch`; ``program(share)`` lets one connection in 2**share through."""
        super().__init__(program(0), blocks, at_once)
        self._program = program
        self._lost = self._share = 0

    def _begins_anew(self) -> bool:
        """Tell whether packets were lost since: forget what was heard, and hear half of it.

        What was lost may have been an answer.
        """
        self._ring.count()
        if self._ring.lost == self._lost:
            return False
        self._lost = self._ring.lost
        self._share = min(self._share + 1, _LEAST_SHARE)
        self._ring.refilter(self._program(self._share))
        return True
