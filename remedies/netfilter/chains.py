"""The chains of a table, read once however many packets are led through them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from remedies.netfilter.stores import Base, RuleStore
from remedies.rules.decoded import Step

NARROW = 2_048
"""Rules by address or port that are looked at in a chain; a blocklist has more."""


class ReadRule:
    """A rule, decoded when it is first looked at."""

    def __init__(self, raw: bytes, narrow: bool) -> None:
        self.raw, self.narrow = raw, narrow
        self.steps: Optional[tuple[Step, ...]] = None


class ReadTable:
    """The chains of a table, read once and no further than asked."""

    def __init__(self, store: RuleStore, base: Base) -> None:
        self._store, self._base = store, base
        self._read: dict[str, list[ReadRule]] = {}
        self._rest: dict[str, Iterator[bytes]] = {}
        self._narrow: dict[str, int] = {}

    def rules(self, chain: str) -> Iterator[ReadRule]:
        """Yield the rules read before, then go on reading.

        Of those that surely do not concern every TCP packet one more than NARROW, which says that
        there are more.
        """
        family, table = self._base.family, self._base.table
        kept = self._read.setdefault(chain, [])
        rest = self._rest.setdefault(chain, self._store.raw(family, table, chain))
        yield from kept
        for raw in rest:
            narrow = self._store.narrow(family, raw)
            if narrow:
                self._narrow[chain] = self._narrow.get(chain, 0) + 1
                if self._narrow[chain] > NARROW + 1:
                    continue
            kept.append(ReadRule(raw, narrow))
            yield kept[-1]

    def steps(self, entry: ReadRule) -> tuple[Step, ...]:
        """Return what a rule means."""
        if entry.steps is None:
            entry.steps = self._store.decode(self._base.family, self._base.table, entry.raw)
        return entry.steps
