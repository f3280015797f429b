"""Counts packets by key in bounded memory, and says how many it could not look at. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from remedies.netlink.flow import Flow
from remedies.tap.packets import Heard


class TallyEntry:
    """Packets of one key."""

    __slots__ = (
        "_by_link",
        "answers",
        "count",
        "first",
        "flow",
        "group",
        "heard",
        "last",
        "untracked",
    )

    def __init__(self, heard: Heard, group: str, first: float) -> None:
        """Begin with none."""
        self.heard = heard
        self.group = group
        """What its packets are counted as: an event, or ``forwarded``."""
        self.first = self.last = first
        self.count = 0
        self.flow: Optional[Flow] = None
        """What its listener found in conntrack about it."""
        self.untracked = False
        """Of a reset: conntrack holds no flow of the connection whose segment it answers."""
        self.answers: Optional[bool] = None
        """Of a reset: see :meth:`remedies.tap.origin.Origin.answers`."""
        self._by_link: dict[int, int] = {}

    def again(self, link: int, time: float) -> bool:
        """Count one more on an interface; tell whether it is one more packet.

        A packet heard on a bridge and on the bridge's port is one packet.
        """
        number = self._by_link[link] = self._by_link.get(link, 0) + 1
        if number <= self.count:
            return False
        self.count, self.last = number, time
        return True


class Tally:
    """Entries of at most two generations; the older one is forgotten as a whole when both are full.

    New keys are admitted at a limited rate for each class (a key's first byte): each costs
    questions to the kernel. What is not admitted is counted in ``unexamined``.
    """

    def __init__(self, limit: int, rate: float) -> None:
        """``limit``: entries of a generation; ``rate``: new keys a second of a class."""
        self._limit, self._rate = limit, rate
        self._young: dict[bytes, TallyEntry] = {}
        self._old: dict[bytes, TallyEntry] = {}
        self._credits: dict[int, tuple[float, float]] = {}  # class: how much, as of when
        self.totals: dict[str, int] = {}
        """Packets by group, those of forgotten entries included."""
        self.unexamined = 0
        """Packets of keys that were not admitted, as often as they were heard."""

    def find(self, key: bytes) -> TallyEntry | None:
        """Return the entry of a key, None where there is none yet."""
        return self._young.get(key) or self._old.get(key)

    def admit(self, class_: int, time: float, cost: float = 1.0) -> bool:
        """Tell whether one more new key of a class may be looked at now; if not, count it.

        ``cost``: how many ordinary keys its questions are worth.
        """
        credit, since = self._credits.get(class_, (float(self._limit), time))
        credit = min(credit + max(0.0, time - since) * self._rate, float(self._limit))
        admitted = credit >= cost
        self._credits[class_] = credit - cost * admitted, max(time, since)
        self.unexamined += not admitted
        return admitted

    def add(self, key: bytes, entry: TallyEntry) -> None:
        """Keep an entry."""
        if len(self._young) >= self._limit:
            self._old, self._young = self._young, {}
        self._young[key] = entry

    def take(self, entry: TallyEntry, link: int, time: float) -> bool:
        """Count a packet of an entry; tell whether it is one more (see :meth:`Entry.again`)."""
        if not entry.again(link, time):
            return False
        self.totals[entry.group] = self.totals.get(entry.group, 0) + 1
        return True

    def entries(self) -> Iterator[TallyEntry]:
        """Yield what is kept, oldest first."""
        yield from self._old.values()
        yield from self._young.values()
