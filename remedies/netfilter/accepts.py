"""Rules that let INVALID segments live on purpose: accepts of INVALID, and SYNPROXY.

Looked for only where a plan asks: a drop of ours stands before them, and whoever wrote such a rule
says that the host carries traffic of which conntrack sees one direction, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Optional

from remedies.errors import Unreadable
from remedies.netfilter.chains import ReadTables
from remedies.netfilter.stores import Base, RuleStore
from remedies.netfilter.walk import CT, mentions, ours
from remedies.rules.decoded import Step
from remedies.values import dataclass, field

_HOOKS = ("prerouting", "input", "forward")
_SYNPROXY = (b"synproxy", b"SYNPROXY")
_WORDS = (*_SYNPROXY, CT, b"conn", b"state")
"""What the raw bytes of such a rule hold, and of any that looks at the conntrack state."""
_ACCEPTS = ("accept", "queue")


@dataclass(frozen=True)
class Accepts:
    """The first such rule of each kind, as ``PLACE: RULE``."""

    invalid: str = ""
    """A rule that accepts what conntrack calls INVALID, by name; empty: there is none."""
    synproxy: str = ""
    unread: tuple[str, ...] = ()
    """Chains that could not be read, and why: such a rule may stand there."""

    @property
    def blind(self) -> Optional[str]:
        """Return why a guard cannot rule such a rule out, None where it can."""
        return f"rules could not be read: {'; '.join(self.unread)}" if self.unread else None


@dataclass
class _HeardChain:
    """What was heard of one chain."""

    targets: dict[str, None] = field(default_factory=dict)
    """The chains that it leads to."""
    found: dict[str, Step] = field(default_factory=dict)
    """The first rule of each kind."""
    failed: str = ""
    """Why a rule of it could not be looked into."""


class AcceptSearch:
    """Hears the rules that are read for another question, and has the rest read."""

    def __init__(self) -> None:
        """Hear whatever is read through ``tables``."""
        self.tables = ReadTables(self._hear)
        self._chains: dict[tuple[int, str, str, str], _HeardChain] = {}

    def _chain(self, store: RuleStore, base: Base, chain: str) -> _HeardChain:
        key = id(store), base.family, base.table, chain
        if key not in self._chains:
            self._chains[key] = _HeardChain()
        return self._chains[key]

    def _hear(self, store: RuleStore, base: Base, chain: str) -> Callable[[bytes], None]:
        notes = self._chain(store, base, chain)
        family, table = base.family, base.table
        targets = store.targets

        def hear(raw: bytes) -> None:
            try:
                for target in targets(family, table, raw):
                    notes.targets[target] = None
                if mentions(raw, _WORDS):
                    for step in store.decode(family, table, raw):
                        kind = _kind(raw, step)
                        if kind:
                            notes.found.setdefault(kind, step)
            except Unreadable as error:  # of another question's reading, which goes on
                notes.failed = str(error)

        return hear

    def found(self, places: Iterable[tuple[RuleStore, Base]], unread: Iterable[str]) -> Accepts:
        """Return the first rules of each kind that base chains lead to.

        ``unread``: what is known to be missing among these.
        """
        found: dict[str, str] = {}
        missing = list(unread)
        for store, base in places:
            if base.hook not in _HOOKS or base.type != "filter" or not base.rules:
                continue
            try:
                for chain, notes in self._reached(store, base):
                    where = f"{base.backend} {base.family} {base.table} {chain}"
                    for kind in notes.found.keys() - found.keys():
                        text = store.text(base.family, base.table, chain, notes.found[kind])
                        found[kind] = f"{where}: {text}"
            except Unreadable as error:
                missing.append(f"{base.place}: {error}")
        return Accepts(found.get("invalid", ""), found.get("synproxy", ""), tuple(missing))

    def _reached(self, store: RuleStore, base: Base) -> Iterator[tuple[str, _HeardChain]]:
        """Yield what was heard of each chain of others that a base chain leads to, read whole."""
        waiting, seen = [base.chain], {base.chain}
        while waiting:
            chain = waiting.pop()
            self.tables.of(store, base).hear_all(chain)
            notes = self._chain(store, base, chain)
            if notes.failed:
                raise Unreadable(notes.failed)
            if not ours(base.table, chain):
                yield chain, notes
            waiting += [name for name in notes.targets if name not in seen]
            seen.update(notes.targets)


def _kind(raw: bytes, step: Step) -> str:
    """Return which kind of rule it is; empty for any other."""
    if mentions(raw, _SYNPROXY):
        return "synproxy"
    return "invalid" if step.verdict in _ACCEPTS and "invalid" in step.match.states else ""
