"""The tap as its users see it: first packets one by one, repeats counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from remedies.tap.origin import FORWARDED, Origin
from remedies.tap.packets import REFUSED, RESET, SYN, event_of, key, spell
from remedies.tap.program import program
from remedies.tap.ring import Packet, Ring
from remedies.tap.tally import Tally, TallyEntry

_MOST_BLOCKS = 8
"""Blocks read at once, so that a flood cannot hold us: some 3,000 packets."""


class Listener:
    """Hears packets and counts them. Bounded in memory and in the work a packet causes."""

    def __init__(self, *, syn: bool = False, blocks: int, limit: int, rate: float) -> None:
        """Begin to listen: ``syn`` and ``blocks`` as for the ring, the others for the tally.

        Raises Unreadable where a packet socket may not be made.
        """
        self.origin = Origin()
        self.tally = Tally(limit, rate)
        self.malformed = 0
        """Packets that passed the filter and whose headers are cut short all the same."""
        self._ring = Ring(program(syn=syn), blocks)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._ring.fileno()

    def hear(self) -> Iterator[TallyEntry]:
        """Take what has arrived; yield entries that are new, and SYNs that were tried again.

        What is only passing through is counted and not yielded.
        """
        yield from self._take(self._ring.read(_MOST_BLOCKS))

    def drain(self) -> Iterator[TallyEntry]:
        """As :meth:`hear`, until nothing is left that was sent before this call."""
        yield from self._take(self._ring.drain())

    def lost(self) -> int:
        """Return how many packets the kernel has dropped for want of room so far."""
        self._ring.count()
        return self._ring.lost

    def unread(self) -> tuple[str, ...]:
        """Return what could not be read, and why."""
        cut = f"{self.malformed} packets whose headers are cut short"
        return (*self.origin.unread, *((cut,) if self.malformed else ()))

    def close(self) -> None:
        """Stop listening; safe to repeat."""
        self._ring.close()

    def _cost(self, made: bytes) -> float:
        """Return what a new key's questions cost: a refusal is asked about each local address."""
        if event_of(made) in (RESET, SYN):
            return 1.0
        return max(1.0, len(self.origin.local()) / 4)

    def _take(self, packets: Iterable[Packet]) -> Iterator[TallyEntry]:
        tally = self.tally
        for content, outgoing, link, time, summed in packets:
            made = key(content, outgoing, summed)
            if made is None:
                self.malformed += 1
                continue
            entry = tally.find(made)
            new = entry is None
            if entry is None:
                if not tally.admit(made[0], time, self._cost(made)):
                    continue
                heard = spell(made)
                entry = TallyEntry(heard, self.origin.group(heard, link), time)
                if entry.group == RESET:
                    entry.answers = self.origin.answers(heard, link)
                tally.add(made, entry)
            more = tally.take(entry, link, time)
            if entry.group == SYN:
                if more and entry.count > 1:
                    yield entry
            elif entry.group != FORWARDED and (new or _once_more(entry, more)):
                yield entry


def _once_more(entry: TallyEntry, more: bool) -> bool:
    """Tell whether to yield a refused datagram again: its client's next request was listened to."""
    return more and entry.group == REFUSED and entry.count == 2 and entry.flow is None
