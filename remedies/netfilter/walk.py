"""Walks through a rule store: which rules of a kind a packet can reach, and with which match.

A rule's whole match is the conjunction of its own and of every jump on the way from the base chain;
what earlier rules of those chains take first is kept beside it (``PacketRule.after``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from remedies.errors import Unreadable
from remedies.netfilter.ownership import rule_at, rule_met
from remedies.netfilter.stores import Base, RuleStore
from remedies.rules.decoded import Mark, Step
from remedies.rules.matching import conjoin
from remedies.rules.rule import JUMP_DEPTH, Match, PacketRule
from remedies.rules.sought import Sought
from remedies.values import NamedTuple, dataclass, field, replace

NAT_WORDS = (b"masq", b"redir", b"\x08\0\1\0nat", b"NAT", b"MASQ", b"REDIRECT", b"NETMAP")
"""What the raw bytes of a rule that rewrites addresses hold: expression or target names, a short
one with the head of its attribute, since a handle may spell it. No word that every rule is searched
for ends in NUL: half of a rule's bytes are NUL, and the search compares a word's end first."""

CT = b"\x07\0\1\0ct"
"""The name of the expression that looks at conntrack's entry, with the head of its attribute."""
_SETS_MARK = b"\x08\0\2\0\0\0\0\3" + b"\x08\0\3\0"
"""NFTA_META_KEY with NFT_META_MARK, and the head of NFTA_META_SREG (nft_meta_set_dump())."""
NOTRACK_WORDS = (b"notrack", b"NOTRACK", b"CT\0")

TRACK_WORDS = (
    *NAT_WORDS,
    CT,
    b"conn",
    b"CONN",
    b"state",
    b"helper",
    b"synproxy",
    b"SYNPROXY",
)
"""What the raw bytes of a rule that may switch connection tracking on hold."""

_PATHS = 20_000
_EARLIER = 48
_ANY = Match()


def mentions(rule: bytes, words: tuple[bytes, ...]) -> bool:
    """Tell whether any of ``words`` is in a raw rule.

    For each ``in`` of bytes CPython makes an error, since the word is no number, and drops it:
    that takes longer than the search.
    """
    return any(map(rule.count, words))


def ours(table: str, chain: str) -> bool:
    """Tell whether a chain is remedy's own."""
    return table.startswith("remedy_") or chain.startswith("REMEDY-")


def beside_ours(store: RuleStore, base: Base) -> bool:
    """Tell whether a base chain's table holds a chain of ours, be it itself."""
    chains = (base.chain, *store.chains(base.family, base.table))
    return any(ours(base.table, chain) for chain in chains)


def own_chains(store: RuleStore, base: Base) -> Iterator[str]:
    """Yield the chains of ours behind a base chain: itself, or what it jumps to.

    Raises Unreadable.
    """
    if ours(base.table, base.chain):
        yield base.chain
        return
    if not beside_ours(store, base):
        return
    seen: set[str] = set()
    for raw in store.raw(base.family, base.table, base.chain):
        for target in store.targets(base.family, base.table, raw):
            if ours(base.table, target) and target not in seen:
                seen.add(target)
                yield target


def resource_of(base: Base, chain: str) -> str:
    """Return the address of the resource that a chain of ours belongs to."""
    if base.backend == "nft":
        return f"nft:{base.family}/{base.table}"
    return f"{'iptables' if base.family == 'ip' else 'ip6tables'}:{base.table}/{chain}"


def reachable(
    store: RuleStore, base: Base, words: tuple[bytes, ...]
) -> Iterator[tuple[str, bytes]]:
    """Yield chain and raw rule for each rule that a base chain reaches and that holds a word.

    Every chain is read once. Raises Unreadable.
    """
    waiting, seen = [base.chain], {base.chain}
    while waiting:
        chain = waiting.pop()
        for rule in store.raw(base.family, base.table, chain):
            if mentions(rule, words):
                yield chain, rule
            for target in store.targets(base.family, base.table, rule):
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)


def _without(hook: str, match: Match) -> bool:
    """Tell whether a match wants an interface that packets have not got at this hook.

    Output knows no incoming interface; prerouting and input know no outgoing one
    (net/netfilter/nft_meta.c, nft_meta_get_eval(): their device is NULL).
    """
    names = match.in_interfaces if hook == "output" else ()
    if hook in ("prerouting", "input"):
        names = match.out_interfaces
    return any(name != "*" for name in names)


class _TooMany(Unreadable):
    """There are more ways through the chains than are followed."""


class _Reached(NamedTuple):
    """A rule, and the packets that get to it."""

    path: tuple[str, ...]
    step: Step
    match: Match
    after: tuple[Match, ...]


@dataclass
class _ChainWalk:
    store: RuleStore
    base: Base
    wanted: Callable[[Step], bool]
    most: int = _PATHS
    concerned: Callable[[Step, Match], bool] = lambda step, met: True
    """Whether a rule, met by these packets, is asked for, or may lead to one that is."""
    found: list[_Reached] = field(default_factory=list)
    visits: int = 0
    cache: dict[str, list[Step]] = field(default_factory=dict)

    def steps(self, chain: str) -> list[Step]:
        if chain not in self.cache:
            steps: list[Step] = []
            for rule in self.store.raw(self.base.family, self.base.table, chain):
                steps.extend(self.store.decode(self.base.family, self.base.table, rule))
            self.cache[chain] = steps
        return self.cache[chain]

    def all(self, reach: Match) -> str:
        """Follow every way of these packets; return why not all were, empty where they were."""
        try:
            self.chain((self.base.chain,), reach, ())
        except _TooMany as error:
            return str(error)
        return ""

    def chain(self, path: tuple[str, ...], reach: Match, after: tuple[Match, ...]) -> None:
        for step in self.steps(path[-1]):
            self.visits += 1
            if self.visits > self.most:
                raise _TooMany(
                    f"{self.base.backend} {self.base.family} {self.base.table}: "
                    f"more than {self.most} ways through its chains"
                )
            met = conjoin(reach, step.match)
            if met is None or _without(self.base.hook, step.match):
                continue
            wanted, leads = self.wanted(step), step.verdict in ("jump", "goto")
            if (wanted or leads) and self.concerned(step, met):
                if wanted:
                    self.found.append(_Reached(path, step, met, after))
                if leads and step.chain not in path and len(path) < JUMP_DEPTH:
                    self.chain((*path, step.chain), met, after)
            if step.verdict not in ("", "jump") and len(after) < _EARLIER:
                after = (*after, step.match)


def leading(store: RuleStore, base: Base, sought: Sought) -> frozenset[str]:
    """Return the chains of a table that lead to rules which turn packets as it is asked for.

    By one look at every rule of the table. Raises Unreadable.
    """
    family, table = base.family, base.table
    holding: set[str] = set()
    others: list[tuple[str, bytes]] = []
    for chain, raw in store.every(family, table):
        if not mentions(raw, NAT_WORDS) or store.targets(family, table, raw):
            others.append((chain, raw))
        elif chain not in holding and any(map(sought.turns, store.decode(family, table, raw))):
            holding.add(chain)
    into: dict[str, set[str]] = {}
    for chain, raw in others if holding else ():
        for led in store.targets(family, table, raw):
            into.setdefault(led, set()).add(chain)
    found, waiting = set(holding), list(holding)
    while waiting:
        new = into.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return frozenset(found)


def collect(
    store: RuleStore,
    base: Base,
    actions: tuple[str, ...],
    most: int = _PATHS,
    only: Match = _ANY,
    *,
    named: bool = True,
) -> tuple[PacketRule, ...]:
    """Return every rule with one of ``actions`` that packets at ``base`` can reach.

    ``only``: of these packets; ways that none of them takes are not followed. A rule that two ways
    lead to comes once for each. Raises Unreadable where a chain cannot be decoded, or where more
    than ``most`` rules would be met on the ways through the chains.
    ``named``: with their texts and owners.
    """
    walk = _ChainWalk(store, base, lambda step: step.action in actions, most)
    walk.chain((base.chain,), only, ())
    return _rules_of(walk, named=named)


def asked_for(
    store: RuleStore, base: Base, actions: tuple[str, ...], only: Match, sought: Sought
) -> tuple[tuple[PacketRule, ...], tuple[str, ...]]:
    """Return those rules, as :func:`collect` does, that are asked for, and what was not followed.

    Raises Unreadable where a chain cannot be decoded.
    """
    chains = store.followed(base.family, base.table)
    if chains is None:
        chains = leading(store, base, sought) if sought.answers else frozenset()
        store.follow(base.family, base.table, chains)
    walk = _ChainWalk(
        store,
        base,
        lambda step: step.action in actions,
        concerned=lambda step, met: step.chain in chains or sought.met(met) or sought.turns(step),
    )
    known = len(store.left_out)
    cut = walk.all(only)
    return _rules_of(walk, named=True), (*store.left_out[known:], *filter(None, [cut]))


def _rules_of(walk: _ChainWalk, *, named: bool) -> tuple[PacketRule, ...]:
    store, base = walk.store, walk.base

    def rule(path: tuple[str, ...], step: Step) -> PacketRule:
        if named:
            return rule_met(store, base, path, step, step.action)
        return rule_at(base, path, step, step.action)

    return tuple(
        replace(rule(path, step), match=match, to=step.to, after=after)
        for path, step, match, after in walk.found
    )


def marked(store: RuleStore, base: Base) -> tuple[tuple[Match, Mark], ...]:
    """Return the packets of ``base`` that get to a rule which sets a mark, and how it does.

    Not known is what a mark becomes that is copied from the connection's. Raises Unreadable as
    :func:`collect` does.
    """
    walk = _ChainWalk(store, base, lambda step: step.mark is not None or _copies(step.raw))
    walk.chain((base.chain,), _ANY, ())
    return tuple((found.match, found.step.mark or (0, None)) for found in walk.found)


def _copies(rule: bytes) -> bool:
    return b"CONNMARK" in rule or (CT in rule and _SETS_MARK in rule)
