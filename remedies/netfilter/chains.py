"""The chains of a table, read once however many packets are led through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Optional

from remedies.errors import Unreadable
from remedies.netfilter.stores import Base, RuleStore
from remedies.rules.decoded import Step

NARROW = 2_048
"""Rules by address or port that are looked at in a chain; a blocklist has more."""

Hear = Callable[[RuleStore, Base, str], Callable[[bytes], None]]
"""Is told store, a base chain of the table, and chain; returns what is told each rule of the chain
as it is read."""


class ReadRule:
    """A rule, decoded when it is first looked at."""

    def __init__(self, raw: bytes, narrow: bool) -> None:
        self.raw, self.narrow = raw, narrow
        self.steps: Optional[tuple[Step, ...]] = None


class ReadTable:
    """The chains of a table, read once and no further than asked."""

    def __init__(self, store: RuleStore, base: Base, hear: Optional[Hear] = None) -> None:
        self._store, self._base, self._hear = store, base, hear
        self._read: dict[str, list[ReadRule]] = {}
        self._rest: dict[str, Iterator[bytes]] = {}
        self._narrow: dict[str, int] = {}
        self._failed: dict[str, Unreadable] = {}
        self._heard: set[str] = set()

    def rules(self, chain: str) -> Iterator[ReadRule]:
        """Yield the rules read before, then go on reading. Raises Unreadable.

        Of those that surely do not concern every TCP packet one more than NARROW, which says that
        there are more.
        """
        kept = self._read.setdefault(chain, [])
        yield from kept
        for raw in self._left(chain):
            narrow = self._store.narrow(self._base.family, raw)
            if narrow:
                self._narrow[chain] = self._narrow.get(chain, 0) + 1
                if self._narrow[chain] > NARROW + 1:
                    continue
            kept.append(ReadRule(raw, narrow))
            yield kept[-1]

    def hear_all(self, chain: str) -> None:
        """Read what is left of a chain, so that all of it was heard; keep nothing of it.

        Whoever asks for its rules after that reads it again. Raises Unreadable, also where an
        earlier reading ended so.
        """
        if chain in self._heard:
            return
        for _ in self._left(chain):
            pass
        self._heard.add(chain)
        for known in (self._read, self._narrow, self._rest):
            known.pop(chain, None)

    def _left(self, chain: str) -> Iterator[bytes]:
        """Yield the rules of a chain that were not read yet."""
        if chain in self._failed:
            raise self._failed[chain]
        if chain not in self._rest:
            self._rest[chain] = self._store.raw(self._base.family, self._base.table, chain)
        hear = self._hear(self._store, self._base, chain) if self._hear is not None else None
        try:
            for raw in self._rest[chain]:
                if hear is not None:
                    hear(raw)
                yield raw
        except Unreadable as error:
            self._failed[chain] = error
            raise

    def steps(self, entry: ReadRule) -> tuple[Step, ...]:
        """Return what a rule means."""
        if entry.steps is None:
            entry.steps = self._store.decode(self._base.family, self._base.table, entry.raw)
        return entry.steps


class ReadTables:
    """Every table that is asked for in one reading."""

    def __init__(self, hear: Optional[Hear] = None) -> None:
        """Read nothing yet; ``hear`` is told of each rule, the first time that it is read."""
        self._hear = hear
        self._tables: dict[tuple[int, str, str], ReadTable] = {}

    def of(self, store: RuleStore, base: Base) -> ReadTable:
        """Return the table of a base chain."""
        key = id(store), base.family, base.table
        if key not in self._tables:
            self._tables[key] = ReadTable(store, base, self._hear)
        return self._tables[key]
