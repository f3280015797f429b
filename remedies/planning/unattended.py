"""What of a plan may be applied with nobody there. Pure."""

from __future__ import annotations

from typing import Optional, Protocol

from remedies import catalogue
from remedies.model import Plan, Policy, Verdict
from remedies.rules import kinds
from remedies.values import replace


class Fault(Protocol):
    """A finding, or what is remembered of one."""

    @property
    def condition(self) -> str:
        """Return its condition's id."""

    @property
    def verdict(self) -> Verdict:
        """Return its verdict."""

    @property
    def waived(self) -> Optional[str]:
        """Return who accepted it, and until when."""


def allowed(policy: Policy, finding: Fault) -> bool:
    """Tell whether policy has a fault fixed with nobody there: only one that is proven."""
    terms = policy.unattended
    listed = terms is not None and finding.condition in terms.conditions
    return listed and finding.verdict == "proven" and not finding.waived


def narrowed(policy: Policy, plan: Plan) -> Plan:
    """Return a plan without all that is not for a person's absence.

    What stays is the use of a fix that ended nothing in any world of the harm matrix, for a proven
    fault of a condition that policy lists. Nothing of ours is removed; the only flows that are
    ended are those that such a fix ends because they go nowhere.
    """
    faults = {each.id for each in plan.scan.findings if allowed(policy, each)}
    kept = tuple(
        change
        for change in plan.changes
        if faults.intersection(change.answers)
        and (change.after is not None or not kinds.comes_back(change.resource))
        and not change.effects
        and catalogue.fix(change.fix).HARMLESS
    )
    return replace(plan, changes=kept)
