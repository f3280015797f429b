"""Which rule drops one packet, and which does so for its conntrack state alone.

For the second the packet is led through the chains of its hook twice: as conntrack calls it,
INVALID, and as one of an established connection. A rule that is met surely by the first, and in a
chain that lets the second by, took it because of its state. Where a rule may decide before, by
something that is not known of the packet, that is a doubt, and named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Optional

from remedies.netfilter.ownership import POLICY, rule_met
from remedies.netfilter.stores import Base, RuleStore
from remedies.rules.decoded import Step
from remedies.rules.invalid_packet import left_open
from remedies.rules.matching import conjoin, covers
from remedies.rules.packet_words import PacketKnowledge, beyond
from remedies.rules.rule import CONNTRACK_PRIORITY, JUMP_DEPTH, Match, PacketRule
from remedies.values import NamedTuple, dataclass, field, replace

RESET = "reset-invalid"
"""Action of a rule that answers INVALID segments with a TCP reset."""
_DROPS = ("drop", "reject", "reset")
_ENDS = (*_DROPS, "accept", "queue")
_JUMPS = ("jump", "goto")
_NOTHING = PacketKnowledge()
_POLICY = Step(Match())


class Taker(NamedTuple):
    """A rule that drops a packet if it is INVALID, and only then."""

    rule: PacketRule
    """One that answers with a TCP reset has the action :data:`RESET`."""
    doubts: tuple[str, ...]
    """Conditions on the way that could not be judged: it may not get there, or not drop it."""


def takers(stores: Iterable[RuleStore], packet: Match, family: str) -> Iterator[Taker]:
    """Yield the rule in each base chain that drops a packet if it is INVALID, and only then.

    ``packet`` has no state; where its destination is this host it says so. ``family``: ``ip`` or
    ``ip6``. Raises Unreadable where a chain on its way cannot be read.
    """
    hooks = ("prerouting", "input" if packet.destination_local else "forward")
    for store in stores:
        for base in store.bases():
            if base.hook not in hooks or base.priority <= CONNTRACK_PRIORITY or base.type == "nat":
                continue
            if base.family not in (family, "inet") or not (base.rules or not base.accepts):
                continue
            led = _Led(store, base, replace(packet, states=("invalid",)))
            invalid = led.end()
            if invalid is None:
                continue
            known = _Led(store, base, replace(packet, states=("established",)))
            if known.end() is None or (known.doubts and not led.doubts):
                path, step = invalid
                text = POLICY if step is _POLICY else None
                action = RESET if step.verdict == "reset" else "drop-invalid"
                rule = rule_met(store, base, path, step, action, text)
                yield Taker(rule, tuple(dict.fromkeys(led.doubts)))


def dropper(
    stores: Iterable[RuleStore],
    packet: Match,
    family: str,
    hooks: Sequence[str],
    known: PacketKnowledge = _NOTHING,
) -> Optional[PacketRule]:
    """Return the rule, or chain's policy, that surely drops a packet on its way through ``hooks``.

    None where a condition before it cannot be judged, or none drops it. ``packet`` has its state.
    Raises Unreadable where a chain on its way cannot be read.
    """
    rule, doubts = fate(stores, packet, family, hooks, known)
    return None if doubts else rule


def fate(
    stores: Iterable[RuleStore],
    packet: Match,
    family: str,
    hooks: Sequence[str],
    known: PacketKnowledge = _NOTHING,
) -> tuple[Optional[PacketRule], tuple[str, ...]]:
    """Return the rule, or chain's policy, that drops a packet, and what may do so before it.

    Without either the packet surely passes. As :func:`dropper` otherwise.
    """
    found = [
        (store, base)
        for store in stores
        for base in store.bases()
        if base.hook in hooks and base.type != "nat" and base.family in (family, "inet")
    ]
    doubts: list[str] = []
    for store, base in sorted(found, key=lambda one: (hooks.index(one[1].hook), one[1].priority)):
        if not base.rules and base.accepts:
            continue
        led = _Led(store, base, packet, known)
        end = led.end()
        doubts += led.doubts
        if end is not None and not led.doubts:
            path, step = end
            text = POLICY if step is _POLICY else None
            rule = replace(rule_met(store, base, path, step, "drop", text), version=family)
            return rule, tuple(dict.fromkeys(doubts))
    return None, tuple(dict.fromkeys(doubts))


@dataclass
class _Led:
    """One packet on its way through a base chain."""

    store: RuleStore
    base: Base
    packet: Match
    known: PacketKnowledge = _NOTHING
    doubts: list[str] = field(default_factory=list)
    """The conditions that could not be judged: a rule with one counts only if it drops."""

    def end(self) -> Optional[tuple[tuple[str, ...], Step]]:
        """Return where and by what it is dropped; None where it is not."""
        found = self._through((self.base.chain,))
        if isinstance(found, tuple):
            return found
        return ((self.base.chain,), _POLICY) if found is None and not self.base.accepts else None

    def _through(self, path: tuple[str, ...]) -> tuple[tuple[str, ...], Step] | str | None:
        """Return what drops it; ``else``: it ends otherwise; None: it goes on."""
        family, table = self.base.family, self.base.table
        for raw in self.store.raw(family, table, path[-1]):
            for step in self.store.decode(family, table, raw):
                if step.verdict not in (*_ENDS, *_JUMPS, "return"):
                    continue
                match = self._open(step.match)
                if match is None or conjoin(match, self.packet) is None:
                    continue
                if not covers(match, self.packet):
                    self.doubts += match.unmodelled or ("addresses, ports or interfaces",)
                    if step.verdict not in _DROPS:
                        continue
                if step.verdict in _DROPS:
                    return path, step
                if step.verdict in _ENDS:
                    return "else"
                if step.verdict in _JUMPS and len(path) < JUMP_DEPTH:
                    end = self._through((*path, step.chain))
                    if end is not None:
                        return end
                if step.verdict in ("return", "goto"):
                    return None
        return None

    def _open(self, match: Match) -> Optional[Match]:
        """Return what of a match is not known of the packet; None where it is known to fail."""
        if self.known != _NOTHING:
            return beyond(match, self.packet.states, self.known)
        if self.packet.states != ("invalid",):
            return match
        return left_open(match, self.base.hook, mark=None)
