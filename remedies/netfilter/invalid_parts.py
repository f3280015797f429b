"""Packets on their way through base chains, in parts, and the rules that they meet there."""

from __future__ import annotations

from typing import Optional

from remedies.netfilter.ownership import POLICY, rule_met
from remedies.netfilter.stores import Base, RuleStore
from remedies.rules.decoded import Step
from remedies.rules.rule import Match, PacketRule
from remedies.values import NamedTuple, dataclass, replace


class Met(NamedTuple):
    """A rule on a way, or the policy at its end."""

    store: RuleStore
    base: Base
    path: tuple[str, ...]
    step: Step
    policy: bool = False

    def rule(self, action: str, hook: str, family: str) -> PacketRule:
        """Return it as a value. Raises Unreadable."""
        text = POLICY if self.policy else None
        found = rule_met(self.store, self.base, self.path, self.step, action, text)
        version = family if self.base.family == "inet" else ""
        return replace(found, hook=hook, version=version)


@dataclass(frozen=True)
class Part:
    """Some of the packets, on their way."""

    packet: Match
    mark: Optional[int] = 0
    """None: not known."""
    doubt: Optional[Met] = None
    """A rule that is not understood, which they may have met or not."""
    service: bool = False
    """A rule has picked them by ports of services, where the way's packets go to others, too."""
    passed: tuple[Met, ...] = ()
    """The rules that accepted them, in one base chain each."""
    ghost: bool = False
    """They have left this base chain by the last of these: would a later rule have dropped them?"""

    @property
    def gate(self) -> int:
        """Return what stands for the rule that let a ghost by."""
        return id(self.passed[-1].step)
