"""Which base chains really drop TCP packets that conntrack calls INVALID.

One generic packet is led through a base chain: TCP, state invalid, from no particular address, by
any interface but ``lo``. On output it is the reset with which the host answers an INVALID segment,
which is INVALID itself. A rule concerns it when the rule's whole match covers it; the first such
rule with a verdict decides. Rules that concern only some such packets (one port, one subnet) are
passed by, so a drop counts although ports have been accepted before it.

A chain that drops whatever it has not accepted (a last rule without a match, or a policy) counts
too, if nothing before it could accept an INVALID segment for an arbitrary port: that host sends no
reset either.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from remedies.netfilter.ownership import owner
from remedies.netfilter.stores import Base, RuleStore
from remedies.netfilter.walk import ours
from remedies.rules.decoded import Step
from remedies.rules.matching import conjoin, covers
from remedies.rules.rule import Match, PacketRule
from remedies.values import dataclass, replace

_DEPTH = 16
_PARTIAL = 512
_EVERYONE = {"ip": "0.0.0.0/0", "ip6": "::/0"}


def generic(family: str, hook: str) -> Match:
    """Return the packets that an effective drop has to cover at ``hook``."""
    return Match(
        protocols=("tcp",),
        sources=(_EVERYONE[family],),
        not_in_interfaces=("lo",),
        not_out_interfaces=("lo",),
        destination_local=None if hook in ("prerouting", "output") else hook == "input",
        states=("invalid",),
    )


class _Chains:
    """The rules of a base chain's table that are not narrow, read once and no further than asked.

    The narrow ones are kept aside while they are few.
    """

    def __init__(self, store: RuleStore, base: Base) -> None:
        self._store, self._base = store, base
        self._read: dict[str, list[bytes]] = {}
        self._rest: dict[str, Iterator[bytes]] = {}
        self.partial: list[bytes] = []
        self.too_many = False

    def rules(self, chain: str) -> Iterator[bytes]:
        """Yield those read before, then go on reading."""
        base = self._base
        kept = self._read.setdefault(chain, [])
        rest = self._rest.setdefault(chain, self._store.raw(base.family, base.table, chain))
        yield from kept
        for raw in rest:
            if ours(base.table, chain) or not self._store.narrow(base.family, raw):
                kept.append(raw)
                yield raw
            elif len(self.partial) < _PARTIAL:
                self.partial.append(raw)
            else:
                self.too_many = True


@dataclass
class _Trial:
    """One generic packet on its way through one base chain."""

    store: RuleStore
    base: Base
    chains: _Chains
    packet: Match
    leaks: bool = False

    def chain(self, path: tuple[str, ...]) -> Optional[PacketRule | str]:
        """Return the rule that drops the packet, ``"stop"``, or None: back to the caller."""
        base = self.base
        for raw in self.chains.rules(path[-1]):
            for step in self.store.decode(base.family, base.table, raw):
                if ours(base.table, path[-1]):
                    # What our rule says beyond this (the flags of a reset) holds for the packet.
                    step = replace(step, match=replace(step.match, unmodelled=()))
                if not covers(step.match, self.packet):
                    self.leaks = self.leaks or self.lets_by(step)
                    continue
                # An ICMP error keeps the segment from every socket, too; a reset is the fault.
                if step.verdict in ("drop", "reject"):
                    return self.dropped(path, step)
                if step.verdict in ("accept", "reset", "queue"):
                    return "stop"
                if step.verdict in ("jump", "goto") and len(path) < _DEPTH:
                    end = self.chain((*path, step.chain))
                    if end is not None:
                        return end
                if step.verdict in ("return", "goto"):
                    return None
        return None

    def lets_by(self, step: Step) -> bool:
        """Tell whether a rule may accept an INVALID segment for an arbitrary port."""
        if step.verdict not in ("accept", "jump", "goto", "queue", "reset", "return"):
            return False
        met = conjoin(step.match, self.packet)
        return met is not None and not met.destination_ports

    def dropped(self, path: tuple[str, ...], step: Step) -> PacketRule | str:
        if step.match.states or not self.everything_leaks():
            text = self.store.text(self.base.family, self.base.table, path[-1], step)
            return self.rule(path, text, step)
        return "stop"

    def everything_leaks(self) -> bool:
        """Tell whether a default deny is reached by fewer than all: judged only when needed."""
        base = self.base
        self.leaks = self.leaks or self.chains.too_many
        for raw in self.chains.partial:
            if self.leaks:
                break
            for step in self.store.decode(base.family, base.table, raw):
                self.leaks = self.leaks or self.lets_by(step)
        return self.leaks

    def rule(self, path: tuple[str, ...], text: str, step: Step) -> PacketRule:
        base = self.base
        family = "ip6" if ":" in self.packet.sources[0] else "ip"
        return PacketRule(
            backend=base.backend,
            family=family,
            table=base.table,
            chain=path[-1],
            hook=base.hook,
            action="drop-invalid",
            text=text,
            match=step.match,
            owner=owner(self.store, base, path, step),
        )


def _trial(store: RuleStore, base: Base, chains: _Chains, family: str) -> Optional[PacketRule]:
    trial = _Trial(store, base, chains, generic(family, base.hook))
    end = trial.chain((base.chain,))
    if isinstance(end, PacketRule):
        return end
    if end is None and not base.accepts and not trial.everything_leaks():
        return trial.rule((base.chain,), "policy drop", Step(Match()))
    return None


def effective(store: RuleStore, base: Base) -> tuple[PacketRule, ...]:
    """Return the rule (or policy) of ``base`` that drops INVALID TCP, one for each IP version.

    One rule of an ``inet`` table that drops both versions comes once. Raises Unreadable.
    """
    if base.accepts and not base.rules:
        return ()
    families = ("ip", "ip6") if base.family == "inet" else (base.family,)
    chains = _Chains(store, base)
    found = [rule for rule in (_trial(store, base, chains, f) for f in families) if rule]
    if len(found) == 2 and found[0].text == found[1].text and found[0].chain == found[1].chain:
        return (replace(found[0], family="inet"),)
    return tuple(found)
