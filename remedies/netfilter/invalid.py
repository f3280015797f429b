"""Which base chains really drop TCP packets that conntrack calls INVALID.

One generic packet is led through a base chain: TCP, state invalid, from no particular address, by
the links that NAT serves. On output it is the reset with which the host answers an INVALID segment,
which is INVALID itself. A rule concerns it when the rule's whole match covers it; the first such
rule with a verdict decides. A drop, or the policy of a chain that accepts only what it knows,
counts if nothing before it accepts some such packets: by link, source, flags, a range of ports that
NAT hands out, or in a chain that is jumped to. An accept of services' own ports lets none by.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Optional

from remedies.netfilter.ownership import POLICY, rule_met
from remedies.netfilter.stores import Base, RuleStore
from remedies.netfilter.walk import ours
from remedies.rules.decoded import Step
from remedies.rules.invalid_packet import EVERYONE, left_open, one_service
from remedies.rules.matching import conjoin, covers
from remedies.rules.rule import CONNTRACK_PRIORITY, JUMP_DEPTH, Match, PacketRule
from remedies.values import dataclass, replace

_PARTIAL = 512
_TAKING = ("accept", "reset", "queue")
_DROPPING = ("drop", "reject")


class _Chains:
    """The rules of a base chain's table, read once and no further than asked.

    Of the narrow ones, by address or port, only the first few are looked at, unless all are wanted.
    """

    def __init__(self, store: RuleStore, base: Base, *, whole: bool = False) -> None:
        self._store, self._base, self._whole = store, base, whole
        self._read: dict[str, list[tuple[Step, ...]]] = {}
        self._rest: dict[str, Iterator[bytes]] = {}
        self._narrow = 0

    @property
    def too_many(self) -> bool:
        """Tell whether narrow rules were left out."""
        return self._narrow > _PARTIAL

    def rules(self, chain: str) -> Iterator[tuple[Step, ...]]:
        """Yield the steps of those read before, then go on reading."""
        base, store = self._base, self._store
        kept = self._read.setdefault(chain, [])
        rest = self._rest.setdefault(chain, store.raw(base.family, base.table, chain))
        yield from kept
        for raw in rest:
            if not (self._whole or ours(base.table, chain)) and store.narrow(base.family, raw):
                self._narrow += 1
                if self.too_many:
                    continue
            kept.append(store.decode(base.family, base.table, raw))
            yield kept[-1]


@dataclass
class _Trial:
    """One generic packet on its way through one base chain."""

    store: RuleStore
    base: Base
    chains: _Chains
    packet: Match
    reset: bool = False
    """The packet is the reset that answers such a segment."""
    leak: Optional[PacketRule] = None
    """The first rule that accepts some of the packets."""
    denied: bool = False
    """A drop of all of them has been met."""
    looked: int = 0

    def verdict(self, step: Step) -> str:
        """Return a rule's verdict on the packet.

        No reset answers a reset, which is dropped all the same (nf_reject_ip_tcphdr_get(),
        net/ipv4/netfilter/nf_reject_ipv4.c; reject_tg(), net/ipv4/netfilter/ipt_REJECT.c).
        """
        return "drop" if self.reset and step.verdict == "reset" else step.verdict

    def chain(self, path: tuple[str, ...]) -> Optional[PacketRule | str]:
        """Return the rule that drops the packet, ``"stop"``, or None: back to the caller."""
        rules = self.chains.rules(path[-1])
        for steps in rules:
            for step in steps:
                match = left_open(step.match, self.reset)
                if match is None:
                    continue
                if not covers(match, self.packet):
                    self.lets_by(path[-1], step, self.packet, len(path))
                    continue
                verdict = self.verdict(step)
                # An ICMP error keeps the segment from every socket, too; a reset is the fault.
                if verdict in _DROPPING:
                    return self.dropped(path, step)
                if verdict in _TAKING:
                    self.takes_before_a_drop(path, step, rules)
                    return "stop"
                if step.verdict in ("jump", "goto") and len(path) < JUMP_DEPTH:
                    end = self.chain((*path, step.chain))
                    if end is not None:
                        return end
                if step.verdict in ("return", "goto"):
                    return None
        return None

    def takes_before_a_drop(
        self, path: tuple[str, ...], step: Step, rest: Iterator[tuple[Step, ...]]
    ) -> None:
        """Note a rule that accepts every such packet where a later one would drop it."""
        self.denied = not self.base.accepts or any(
            later.verdict == "drop" and covers(later.match, self.packet)
            for steps in itertools.islice(rest, _PARTIAL)
            for later in steps
        )
        self.lets_by(path[-1], step, self.packet, len(path))

    def lets_by(self, chain: str, step: Step, packet: Match, depth: int) -> None:
        """Note the first rule that accepts such packets, for ports that NAT hands out."""
        verdict = self.verdict(step)
        if self.leak is not None or verdict not in (*_TAKING, "jump", "goto", "return"):
            return
        match = left_open(step.match, self.reset)
        met = None if match is None else conjoin(match, packet)
        # A reset goes to one service: what accepts that is not about another one.
        if met is None or (one_service(met) and not one_service(packet)):
            return
        if verdict in _TAKING or (verdict == "return" and depth == 1):
            self.leak = self.rule((chain,), step, "accepts-invalid")
        elif step.chain and depth < JUMP_DEPTH:
            back = self.inside(step.chain, met, depth + 1)
            ends = step.verdict == "goto" and depth == 1 and self.base.accepts
            if back and ends and self.leak is None:
                self.leak = self.rule((chain,), step, "accepts-invalid")

    def inside(self, chain: str, packet: Match, depth: int) -> bool:
        """Look for what accepts some of the packets that a jump leads into a chain.

        Tell whether some may come back.
        """
        for steps in self.chains.rules(chain):
            self.looked += 1
            if self.looked > _PARTIAL:
                return True
            for step in steps:
                self.lets_by(chain, step, packet, depth)
                match = left_open(step.match, self.reset)
                ends = step.verdict in (*_TAKING, *_DROPPING, "return", "goto")
                if ends and match is not None and covers(match, packet):
                    return step.verdict in ("return", "goto")
        return True

    def dropped(self, path: tuple[str, ...], step: Step) -> PacketRule | str:
        self.denied = True
        if not self.leaks(bool(step.match.states)):
            return self.rule(path, step)
        return "stop"

    def leaks(self, by_state: bool) -> bool:
        """Tell whether earlier rules accept some.

        A drop by state counts, a default deny does not, behind more of them than are looked at.
        """
        return self.leak is not None or (
            not by_state and (self.chains.too_many or self.looked > _PARTIAL)
        )

    def rule(
        self,
        path: tuple[str, ...],
        step: Step,
        action: str = "drop-invalid",
        text: Optional[str] = None,
    ) -> PacketRule:
        version = "ip6" if ":" in self.packet.sources[0] else "ip"
        return replace(rule_met(self.store, self.base, path, step, action, text), version=version)


def _trial(trial: _Trial) -> Optional[PacketRule]:
    base = trial.base
    end = trial.chain((base.chain,))
    if isinstance(end, PacketRule):
        return end
    trial.denied = trial.denied or not base.accepts
    if end is None and not base.accepts and not trial.leaks(False):
        return trial.rule((base.chain,), Step(Match()), text=POLICY)
    return None


@dataclass(frozen=True)
class InvalidDrops:
    """What a base chain does with such packets."""

    drops: tuple[PacketRule, ...] = ()
    """The rule (or policy) that drops them all; one for each IP version, or for both."""
    lets_by: tuple[PacketRule, ...] = ()
    """The first rule that accepts some of those that a later one drops."""


def effective(store: RuleStore, base: Base, packets: Mapping[str, Sequence[Match]]) -> InvalidDrops:
    """Return what ``base`` does with the segments of each IP version. Raises Unreadable.

    A drop counts for a version if each of its segments meets one.
    """
    if base.accepts and not base.rules:
        return InvalidDrops()
    chains = _Chains(store, base)
    found: list[PacketRule] = []
    leaks: list[PacketRule] = []
    for each in packets.values():
        trials = [_Trial(store, base, chains, packet, base.hook == "output") for packet in each]
        met = [_trial(trial) for trial in trials]
        if None not in met:
            found += [rule for rule in met[:1] if rule]
        else:
            leaks += [trial.leak for trial in trials if trial.leak and trial.denied]
    if len(found) == 2 and found[0].text == found[1].text and found[0].chain == found[1].chain:
        found = [replace(found[0], version="")]
    return InvalidDrops(tuple(found), tuple(dict.fromkeys(leaks)))


def resets_dropped(
    store: RuleStore, base: Base, family: str, resets: Sequence[Match]
) -> Optional[PacketRule]:
    """Return a rule of ``base`` that drops these resets, where each of them is dropped.

    They answer what was forwarded with a container's own address. Raises Unreadable.
    """
    chains = _Chains(store, base, whole=True)
    found = None
    for packet in resets:
        states = () if base.priority < CONNTRACK_PRIORITY else ("invalid",)
        narrow = conjoin(replace(packet, states=states), Match(sources=(EVERYONE[family],)))
        if narrow is None:
            continue
        if base.hook == "prerouting":  # where it will leave is not known yet
            narrow = replace(narrow, out_interfaces=(), not_out_interfaces=())
        found = _trial(_Trial(store, base, chains, narrow, reset=True))
        if found is None:
            return None
    return found
