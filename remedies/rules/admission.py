"""Whether rules pass a packet that differs from another in its destination or state alone. Pure.

A redirect gives a request another destination; without tracking a packet has another conntrack
state. Both packets are led through a chain in step: a rule that does not look at what differs
decides the same for both, so only rules that do can open for one what they close for the other.
What cannot be told counts as closed.
"""

from __future__ import annotations

from typing import Optional

from remedies.rules.header_words import ON_ARRIVAL
from remedies.rules.matching import conjoin, covers
from remedies.rules.rule import JUMP_DEPTH, ONE_OF_ALL, Match
from remedies.values import dataclass, field

CLOSING = ("drop", "reject", "reset", "queue")
_ELSEWHERE = frozenset(
    (
        *("limit", "mark", "length", "pkttype", "skuid", "skgid", "quota", "numgen"),
        *ON_ARRIVAL,
        ONE_OF_ALL,
        *("conntrack", "conntrack entry", "connlimit", "statistic"),
        *("ct key 1", "ct key 2", "ct key 3"),  # direction, status and mark: enum nft_ct_keys
    )
)
"""Conditions that are not modelled and do not look at the destination, as every ``meta`` key, and
every ``ctstate`` with what NAT did."""
_TRACKED = ("ct", "conn", "helper", "state", "recent")
"""How the names of conditions begin that look at conntrack's entry, or may."""


@dataclass(frozen=True)
class InputRule:
    """A rule with a verdict, in one of the chains that a base chain leads to."""

    chain: str
    match: Match
    verdict: str
    """As in :class:`~remedies.rules.decoded.Step`."""
    target: str
    """Where a jump or goto leads."""
    text: str


@dataclass(frozen=True)
class InputChain:
    """A base chain that a packet to or from this host passes behind NAT, and its rules."""

    place: str
    """Backend, family, table and chain."""
    family: str
    chain: str
    accepts: bool
    """The policy is accept."""
    rules: tuple[InputRule, ...] = ()
    """In the order of each chain."""


def closed(chain: InputChain, old: Match, new: Match) -> Optional[str]:
    """Return the rule or policy by which ``new`` may be stopped where ``old`` is not, or None.

    The two differ either in their destination or in their conntrack state.
    """
    walk = _PairWalk(chain, old, new)
    ends = walk.through(chain.chain, 0)
    if walk.why is None and not ends and not chain.accepts and walk.alone is not None:
        return walk.told(f"the policy of {chain.place} drops")
    return walk.why


@dataclass
class _PairWalk:
    base: InputChain
    old: Match
    new: Match
    alone: Optional[InputRule] = None
    """What may have let the old packet in, and the new one not: that has to pass by itself now."""
    why: Optional[str] = None
    chains: dict[str, list[InputRule]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rule in self.base.rules:
            self.chains.setdefault(rule.chain, []).append(rule)

    def through(self, name: str, depth: int) -> bool:
        """Tell whether both packets surely end in this chain, or why the new one may not pass."""
        partly_back = False
        for rule in self.chains.get(name, ()):
            old, new = _meets(rule, self.old), _meets(rule, self.new)
            if old == new == "no":
                continue
            if not self.same_for_both(rule):
                if self.differs(rule, old, new):
                    return not partly_back
            elif rule.verdict in ("jump", "goto"):
                if depth == JUMP_DEPTH:
                    self.why = self.told(
                        f"'{rule.text}' ({self.base.place}) jumps through too many chains for"
                    )
                elif self.through(rule.target, depth + 1) and new == "yes":
                    return not partly_back
                if self.why is None and rule.verdict == "goto" and new == "yes":
                    return False
            elif rule.verdict == "return":
                if new == "yes":
                    return False
                partly_back = True
            else:
                if self.alone is not None and rule.verdict in CLOSING:
                    self.why = self.told(f"'{rule.text}' ({self.base.place}) stops")
                if new == "yes":
                    return not partly_back
            if self.why is not None:
                return True
        return False

    def differs(self, rule: InputRule, old: str, new: str) -> bool:
        """Judge a rule that may decide otherwise for the two; tell whether that ends the way."""
        if rule.verdict == "accept":
            if new == "yes":
                return True
            if old != "no":
                self.alone = self.alone or rule
            return False
        if rule.verdict in CLOSING:
            if new == "no":
                return False
            if self.alone is None and old == "yes":
                return True
            self.why = self.told(f"'{rule.text}' ({self.base.place}) stops")
            return True
        self.why = self.told(f"'{rule.text}' ({self.base.place}) decides otherwise for")
        return True

    def same_for_both(self, rule: InputRule) -> bool:
        """Return whether a rule does not look at what differs between the packets."""
        match = rule.match
        names = [name[8:] if name.startswith("bits of ") else name for name in match.unmodelled]
        if self.old.states != self.new.states:
            return not match.states and not any(name.startswith(_TRACKED) for name in names)
        if match.destinations or match.not_destinations:
            return False
        return all(name in _ELSEWHERE or name.startswith(("meta ", "ctstate ")) for name in names)

    def told(self, what: str) -> str:
        """Return which rule stops the new packet, and which passed the old one."""
        if self.old.states != self.new.states:
            packets = f"{what} {'/'.join(self.new.states)} packets"
            if self.alone is None:
                return packets
            return f"{packets}; '{self.alone.text}' passes {'/'.join(self.old.states)} ones alone"
        address = self.new.destinations[0].partition("/")[0]
        if self.alone is None:
            return f"{what} requests to {address}"
        before = self.old.destinations[0].partition("/")[0]
        return f"{what} requests to {address}; '{self.alone.text}' opens {before} alone"


def _meets(rule: InputRule, packet: Match) -> str:
    if conjoin(rule.match, packet) is None:
        return "no"
    return "yes" if covers(rule.match, packet) else "maybe"
