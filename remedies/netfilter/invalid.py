"""Which rules really drop TCP packets that conntrack calls INVALID, as the kernel runs them.

What is known of such a segment is led through the base chains of its hooks, in the order of their
priorities: prerouting, then input or forward, then postrouting; and so is the reset that answers it
(on output; or, for what was forwarded, from the client). A rule takes those packets that meet it,
and the rest goes on, in parts; marks that rules set go along. A way is closed where every part is
dropped: by one rule, by several, or by the policy of a chain that accepts only what it knows. An
accept of a few services' ports lets none by that go to a port which NAT or a client picked; a reset
goes to a service, and comes from such a port.

Where a part is let by through a rule that is not understood, it is in doubt whether the way is
closed. A drop that is not understood closes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from remedies.errors import Unreadable
from remedies.netfilter.chains import NARROW, ReadTable, ReadTables
from remedies.netfilter.invalid_parts import Met, Part
from remedies.netfilter.stores import HOOKS, Base, RuleStore
from remedies.netfilter.walk import ours, own_chains
from remedies.netlink.links import Links
from remedies.rules.decoded import Step
from remedies.rules.invalid_packet import (
    GENUINE,
    left_open,
    one_service,
    resets_of,
    resets_sent,
    strays,
)
from remedies.rules.invalid_places import all_placed, with_sources
from remedies.rules.matching import conjoin, covers, remainder
from remedies.rules.rule import CONNTRACK_PRIORITY, JUMP_DEPTH, Match, PacketRule
from remedies.rules.sometimes import sometimes
from remedies.values import dataclass, field, replace

_NARROW = 512
"""Rules by address or port that a segment is held against in a table, and NARROW a reset."""
_VISITS = 20_000
"""Rules that the parts of one kind of packet meet; past that, a way is not told."""
_PARTS = 32
"""Parts that packets are split into; past that what is left goes on whole."""
_GHOSTS = 8
_NAMED = 4
_CLOSING = ("drop", "reject")
_TAKING = ("accept", "reset", "queue")

Places = Sequence[tuple[RuleStore, Base]]
"""Base chains, with the store that each is in."""


@dataclass
class _Course:
    """One kind of packet on its way through the base chains of its hooks."""

    tables: ReadTables
    unread: dict[str, None]
    reset: bool
    """It is the reset that answers such a segment."""
    sent: bool
    """And this host's own."""
    picked: str
    """The side (``source``, ``destination``) whose port a client or NAT has picked: what accepts
    the port of a service there lets none of these by. Empty where that side's ports are told."""
    own: bool
    """Rules of ours are passed; else none is."""
    drops: list[Met] = field(default_factory=list)
    answered: list[Part] = field(default_factory=list)
    """What a rule answers with a reset: no later chain sees it."""
    denied: set[int] = field(default_factory=set)
    """The steps, by id, whose packets a later rule of their chain would have dropped."""

    def through(self, places: Places, packet: Match) -> list[Part]:
        """Return the parts that no base chain drops."""
        parts = [Part(packet)]
        for store, base in places:
            try:
                parts = _Pass(self, store, base, self.tables.of(store, base)).all(parts)
            except Unreadable as error:
                self.unread[f"{base.place}: {error}"] = None
        return parts + self.answered


@dataclass
class _Pass:
    """The packets of a way in one base chain."""

    way: _Course
    store: RuleStore
    base: Base
    table: ReadTable
    left: list[Part] = field(default_factory=list)
    """What it has accepted so far."""
    parts: int = 1
    visits: int = 0
    narrow: int = 0
    ghosts: int = 0

    def all(self, parts: list[Part]) -> list[Part]:
        """Return the parts that are let by. Raises Unreadable."""
        ends = self._chain((self.base.chain,), parts)
        if self.crowded:
            return parts
        policy = Met(self.store, self.base, (self.base.chain,), Step(Match()), policy=True)
        for part in ends:
            if self.base.accepts:
                if not part.ghost:
                    self.left.append(part)
            elif part.ghost:
                self.way.denied.add(part.gate)
            elif self.blind:
                self.left.append(part)  # an accept may be among the rules that were left out
            else:
                self.way.drops.append(policy)
        return parts if self.crowded else self.left

    @property
    def crowded(self) -> bool:
        """Tell whether so many parts are let by that all that came goes on whole."""
        return len(self.left) > _PARTS

    @property
    def blind(self) -> bool:
        """Tell whether rules were left out, because they are too many."""
        return self.narrow > (NARROW if self.way.reset else _NARROW)

    def _chain(self, path: tuple[str, ...], parts: list[Part]) -> list[Part]:
        """Return the parts that come back from a chain, or reach the end of a base chain."""
        back: list[Part] = []
        for entry in self.table.rules(path[-1]):
            if not parts or self.crowded:
                break
            if entry.narrow:
                self.narrow += 1
                if self.blind:
                    continue
            for step in self.table.steps(entry):
                if step.verdict or step.mark is not None or step.action == "notrack":
                    self.parts = len(parts)
                    parts = [p for part in parts for p in self._step(path, step, part, back)]
        return parts + back

    def _step(self, path: tuple[str, ...], step: Step, part: Part, back: list[Part]) -> list[Part]:
        """Return the parts that go on to the next rule."""
        self.visits += 1
        if self.visits > _VISITS:
            raise Unreadable(f"more than {_VISITS} rules on the way of a packet")
        hook = "output" if self.way.sent else self.base.hook
        match = left_open(step.match, hook, reset=self.way.reset, mark=part.mark)
        if match is None:
            return [part]
        lets = step.verdict in (*_TAKING, "return")
        named = set(match.unmodelled)
        if lets and named and named <= GENUINE:
            match, named = replace(match, unmodelled=()), set()
        packet = conjoin(part.packet, match)
        if packet is None:
            return [part]
        met = Met(self.store, self.base, path, step)
        sure = not named
        some = all(sometimes(name, sent=self.way.sent) for name in named)
        taken = replace(
            part,
            packet=replace(packet, unmodelled=()),
            doubt=part.doubt if some else part.doubt or met,
            service=part.service or one_service(match, self.way.picked),
        )
        rest = [] if sure and covers(match, part.packet) else [part]
        if sure and rest:
            rest = self._rest(part, match)
        if step.verdict in _TAKING and taken.service and not part.ghost:
            return rest if len(rest) < 2 else [part]
        if step.verdict == "queue":  # what the program that reads it decides is not known
            taken = replace(taken, doubt=taken.doubt or met)
        if step.verdict in _CLOSING or (self.way.reset and step.verdict == "reset"):
            return self._closed(met, part, rest) if sure else [part]
        if step.verdict in _TAKING:
            return self._accepted(met, part, taken, whole=not rest)
        if step.verdict == "return":
            back.append(taken)
            return rest
        if step.verdict in ("jump", "goto"):
            return self._led(path, step, part, taken, rest, back, sure)
        if step.action == "notrack":
            return self._untracked(part, taken, rest if sure else [part])
        if sure:
            return [*rest, _marked(step, taken)]
        if some and self.parts <= _PARTS:  # some of them are marked, and others are not
            return [part, _marked(step, taken)]
        return [replace(part, mark=None)]

    def _untracked(self, part: Part, taken: Part, rest: list[Part]) -> list[Part]:
        """Take the state away (nft_notrack_eval()); before conntrack, NAT does not see the flow."""
        if self.base.priority <= CONNTRACK_PRIORITY or taken.service:
            return [part]
        return [*rest, replace(taken, packet=replace(taken.packet, states=("untracked",)))]

    def _rest(self, part: Part, match: Match) -> list[Part]:
        """Return the parts that do not meet a match; all of it where that would be too many."""
        found = remainder(part.packet, match)
        if len(found) > 1 and self.parts > _PARTS:
            return [part]
        return [replace(part, packet=packet) for packet in found]

    def _closed(self, met: Met, part: Part, rest: list[Part]) -> list[Part]:
        if part.ghost:
            self.way.denied.add(part.gate)
            return []
        if self.blind and not met.step.match.states:
            return [part]  # an accept may be among the rules that were left out
        if part.doubt is None:
            self.way.drops.append(met)
        return rest

    def _accepted(self, met: Met, part: Part, taken: Part, whole: bool) -> list[Part]:
        """Judge an accept of more than a service: what meets it goes on, to be asked later."""
        if part.ghost:
            return [] if whole else [part]
        passed = replace(taken, passed=(*part.passed, met))
        (self.way.answered if met.step.verdict == "reset" else self.left).append(passed)
        going = [] if whole else [part]
        if self.ghosts < _GHOSTS:
            self.ghosts += 1
            going.append(replace(passed, ghost=True))
        return going

    def _led(
        self,
        path: tuple[str, ...],
        step: Step,
        part: Part,
        taken: Part,
        rest: list[Part],
        back: list[Part],
        sure: bool,
    ) -> list[Part]:
        """Follow a jump or goto."""
        if len(path) >= JUMP_DEPTH or (not self.way.own and ours(self.base.table, step.chain)):
            return [part]
        returned = self._chain((*path, step.chain), [taken])
        if step.verdict == "goto":
            back.extend(returned)
            return rest
        if not sure:
            return [part, *(p for p in returned if p.ghost)]
        return [part] if returned == [taken] else [*rest, *returned]


def _marked(step: Step, part: Part) -> Part:
    """Return packets with the mark that a rule sets."""
    kept, turned = step.mark or (0, None)
    if turned is None or (part.mark is None and kept):
        return replace(part, mark=None)
    return replace(part, mark=(part.mark or 0) & kept ^ turned)


@dataclass(frozen=True)
class Judged:
    """What the rules do with INVALID segments, and with the resets that answer them."""

    drops: tuple[PacketRule, ...] = ()
    """Of each way that is closed the rules, or policies, that close it."""
    lets_by: tuple[PacketRule, ...] = ()
    """What accepts some of those that a later rule of its chain would drop."""
    doubts: tuple[PacketRule, ...] = ()
    """What is not understood, and alone leaves open whether its way is closed."""
    unread: tuple[str, ...] = ()


_COURSES = {
    "input": ("prerouting", "input"),
    "forward": ("prerouting", "forward", "postrouting"),
    "output": ("output", "postrouting"),
}
"""The hooks that packets pass whose way is named by one of them."""


@dataclass
class _InvalidAnswers:
    links: Links
    tables: ReadTables
    unread: dict[str, None] = field(default_factory=dict)
    found: dict[str, list[PacketRule]] = field(default_factory=dict)
    placed: dict[tuple[str, tuple[Match, ...]], list[Match]] = field(default_factory=dict)
    """Packets as they come to a hook: the same for rules of ours and for all others."""

    def with_ours(self, places: Places) -> Places:
        """Return the base chains that have rules of ours."""
        found = []
        for store, base in places:
            try:
                if next(own_chains(store, base), ""):
                    found.append((store, base))
            except Unreadable as error:
                self.unread[f"{base.place}: {error}"] = None
        return found

    def way(
        self, places: Places, family: str, hook: str, packets: tuple[Match, ...],
        reset: bool, own: bool,
    ) -> bool:  # fmt: skip
        """Judge one way of one IP version; tell whether a rule answers some with a reset."""
        course = [
            (store, base)
            for name in _COURSES[hook]
            for store, base in sorted(places, key=lambda at: at[1].priority)
            if base.hook == name and base.family in (family, "inet")
        ]
        if not course:
            return False
        drops: dict[int, Met] = {}
        left: list[Part] = []
        denied: set[int] = set()
        if (hook, packets) not in self.placed:
            self.placed[hook, packets] = all_placed(packets, hook, self.links)
        for packet in self.placed[hook, packets]:
            told = packet.source_ports if reset else packet.destination_ports
            picked = "" if told else "source" if reset else "destination"
            way = _Course(self.tables, self.unread, reset, hook == "output", picked, own)
            left += way.through(course, packet)
            denied |= way.denied
            drops.update(
                {id(met.step) if not met.policy else id(met.base): met for met in way.drops}
            )
        if not left:
            named = _chief(list(drops.values()))
            self.note("drops", named, "drop-invalid", hook, family)
        elif own:
            pass
        elif all(part.doubt for part in left):
            doubts = {id(p.doubt.step): p.doubt for p in left if p.doubt}
            self.note("doubts", doubts.values(), "unknown", hook, family)
        else:
            passed = {id(met.step): met for part in left for met in part.passed}
            by = [met for key, met in passed.items() if key in denied]
            self.note("lets_by", by[:_NAMED], "accepts-invalid", hook, family)
        return any(met.step.verdict == "reset" for part in left for met in part.passed)

    def note(self, what: str, met: Iterable[Met], action: str, hook: str, family: str) -> None:
        """Keep rules of a way; one that is the same for both IP versions once."""
        kept = self.found.setdefault(what, [])
        for each in met:
            try:
                rule = each.rule(action, hook, family)
            except Unreadable as error:
                self.unread[str(error)] = None
                continue
            twin, both = (replace(rule, version=name) for name in ("ip", ""))
            if rule.version == "ip6" and twin in kept:
                kept[kept.index(twin)] = both
            elif rule not in kept and both not in kept:
                kept.append(rule)


def _chief(drops: list[Met]) -> list[Met]:
    """Return the drops to name: those by state, or what is met last."""
    by_state = [met for met in drops if met.step.match.states]
    return by_state[:_NAMED] or drops[-1:]


def judged(
    places: Places,
    served: Callable[[str], Sequence[PacketRule]],
    links: Links,
    tables: ReadTables,
) -> Judged:
    """Return what becomes of INVALID segments of the flows that NAT rules rewrite.

    ``served``: the NAT rules of an IP version (``ip`` or ``ip6``), none where they are not known.
    ``links`` and addresses of this host: none where they are not known. ``tables``: through which
    the chains are read. Ours are judged by
    themselves. A rule that answers forwarded segments with a reset ends the connection itself, so
    that it is no help who keeps other resets away. What cannot be read is passed by and named.
    """
    chains = [at for at in places if at[1].type != "nat" and at[1].hook in HOOKS]
    judge = _InvalidAnswers(links, tables)
    whose = (
        (False, [at for at in chains if not ours(at[1].table, at[1].chain)]),
        (True, judge.with_ours(chains)),
    )
    for family in ("ip", "ip6"):
        nat, ended = [*with_sources(served(family), family, links)], False
        to_us, through_us = (strays(nat, family, hook) for hook in ("input", "forward"))
        from_us, from_clients = resets_sent(to_us, family), resets_of(nat, family)
        for own, at in whose:
            judge.way(at, family, "input", to_us, False, own)
            judge.way(at, family, "output", from_us, True, own)
            ended |= judge.way(at, family, "forward", through_us, False, own)
            if not ended:
                judge.way(at, family, "forward", from_clients, True, own)
    found: Mapping[str, list[PacketRule]] = judge.found
    drops, lets_by, doubts = (
        tuple(dict.fromkeys(found.get(what, ()))) for what in ("drops", "lets_by", "doubts")
    )
    drops = tuple(sorted(drops, key=lambda rule: not rule.ours))
    return Judged(drops, lets_by, doubts, tuple(judge.unread))
