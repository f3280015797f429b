"""The chains of a table, read once however many packets are led through them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from remedies.netfilter.stores import Base, RuleStore
from remedies.rules.decoded import Step


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

    def rules(self, chain: str) -> Iterator[ReadRule]:
        """Yield the rules read before, then go on reading."""
        family, table = self._base.family, self._base.table
        kept = self._read.setdefault(chain, [])
        rest = self._rest.setdefault(chain, self._store.raw(family, table, chain))
        yield from kept
        for raw in rest:
            kept.append(ReadRule(raw, self._store.narrow(family, raw)))
            yield kept[-1]

    def steps(self, entry: ReadRule) -> tuple[Step, ...]:
        """Return what a rule means."""
        if entry.steps is None:
            entry.steps = self._store.decode(self._base.family, self._base.table, entry.raw)
        return entry.steps
