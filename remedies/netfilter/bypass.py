"""Whether rules of others take every packet that a rule of ours is for, before it gets there.

Our jumps come first in the chains of iptables, and our nat chains before other destination NAT. A
rule that is inserted later may come before ours all the same. Only what surely takes all of them
counts: a rule that takes some, or that is not understood, is passed by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Optional

from remedies.netfilter.stores import Base, RuleStore
from remedies.netfilter.walk import ours, own_chains, resource_of
from remedies.rules.decoded import Step
from remedies.rules.matching import conjoin, covers
from remedies.rules.rule import CONNTRACK_PRIORITY, JUMP_DEPTH, NAT_ACTIONS, Match
from remedies.values import dataclass, replace

_ENDS = ("accept", "drop", "reject", "reset", "queue")

Places = Sequence[tuple[RuleStore, Base]]
"""Every base chain, with the store that it is in."""


@dataclass(frozen=True)
class Bypass:
    """A rule of ours that no packet reaches any more."""

    resource: str
    family: str
    """``ip``, ``ip6``, or ``inet`` for both."""
    hook: str
    own: str
    """Our rule, as its tool prints it."""
    rule: str
    """The rule that takes the packets."""
    place: str
    """Backend, family, table and chain of that rule."""


def bypasses(stores: Iterable[RuleStore]) -> Iterator[Bypass]:
    """Yield the rules of ours that others take every packet from.

    Raises Unreadable where a chain on the way to a rule of ours cannot be read.
    """
    places = [(store, base) for store in stores for base in store.bases()]
    for store, base in places:
        for chain in own_chains(store, base):
            for raw in store.raw(base.family, base.table, chain):
                for step in store.decode(base.family, base.table, raw):
                    found = taken_by(places, store, base, chain, step)
                    if found is not None:
                        yield found


def taken_by(
    places: Places, store: RuleStore, base: Base, chain: str, own: Step
) -> Optional[Bypass]:
    """Return what takes every packet before one rule of ours, None where nothing surely does.

    Raises Unreadable.
    """
    if own.action not in ("redirect", "notrack") and own.verdict != "drop":
        return None
    packet = replace(_packet(own, base), unmodelled=())
    for other, before in places:
        actions = _ending(base, before, own)
        if not actions:
            continue
        met = _of_family(packet, before)
        if met is None:
            continue
        way = _Way(other, before, chain if before == base else "", met, actions)
        taker = way.through((before.chain,))
        if isinstance(taker, tuple):
            name, step = taker
            return Bypass(
                resource_of(base, chain),
                base.family,
                base.hook,
                store.text(base.family, base.table, chain, own),
                other.text(before.family, before.table, name, step),
                f"{before.backend} {before.family} {before.table} {name}",
            )
    return None


def _ending(base: Base, before: Base, own: Step) -> tuple[str, ...]:
    """Return what ends a packet's way to a rule of ours in the chain ``before``; nothing: none can.

    In our own base chain each verdict does; but what drops packets does what our drop does. The
    first NAT rule that applies binds a flow (nf_nat_inet_fn(), net/netfilter/nf_nat_core.c), and
    an accept in another base chain ends only that one.
    """
    if before == base:
        drops = ("drop", "reject") if own.verdict == "drop" else ()
        return tuple(word for word in (*_ENDS, *NAT_ACTIONS, "notrack") if word not in drops)
    if own.action != "redirect" or before.hook != base.hook:
        return ()
    if before.type == "nat":
        return NAT_ACTIONS if before.priority < base.priority else ()
    return ("notrack",) if before.priority < CONNTRACK_PRIORITY else ()


def _packet(own: Step, base: Base) -> Match:
    """Return the packets that a rule of ours is for; NAT sees the first of a flow alone."""
    narrow = Match(not_in_interfaces=("lo",), not_out_interfaces=("lo",))
    if base.type == "nat":
        narrow = replace(narrow, states=("new",))
    return conjoin(own.match, narrow) or own.match


def _of_family(packet: Match, base: Base) -> Optional[Match]:
    """Return those of the packets that a chain sees; before conntrack they have no state yet."""
    everyone = {"ip": Match(sources=("0.0.0.0/0",)), "ip6": Match(sources=("::/0",))}
    if base.priority < CONNTRACK_PRIORITY:
        packet = replace(packet, states=())
    return conjoin(packet, everyone.get(base.family, Match()))


@dataclass
class _Way:
    """The packets of one rule of ours on their way through a base chain, up to ``target``."""

    store: RuleStore
    base: Base
    target: str
    packet: Match
    ends: tuple[str, ...]

    def through(self, path: tuple[str, ...]) -> tuple[str, Step] | str | None:
        """Return chain and rule that take them all; ``reached`` or ``ended``; None: go on."""
        family, table = self.base.family, self.base.table
        if path[-1] == self.target:
            return "reached"
        for raw in self.store.raw(family, table, path[-1]):
            for step in self.store.decode(family, table, raw):
                if step.chain and step.chain == self.target:
                    return "reached"
                if ours(table, path[-1]) or not covers(step.match, self.packet):
                    continue
                if step.verdict in self.ends or step.action in self.ends:
                    return path[-1], step
                if step.verdict in _ENDS:
                    return "ended"
                if step.verdict in ("jump", "goto") and len(path) < JUMP_DEPTH:
                    end = self.through((*path, step.chain))
                    if end is not None:
                        return end
                if step.verdict in ("return", "goto"):
                    # Back from the base chain is to its policy.
                    return (path[-1], step) if self.target and len(path) == 1 else None
        return None
