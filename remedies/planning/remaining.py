"""Which proven faults a plan leaves as they are, and which policy would fix them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from remedies.model import Finding, Plan, Policy
from remedies.planning.engine import rule_for
from remedies.values import dataclass


@dataclass(frozen=True)
class Left:
    """A proven fault that stays after the plan is applied."""

    finding: str
    """Its id."""
    condition: str
    subject: str
    mode: str
    """What the plan's policy says about the condition: ``fix``, ``advise`` or ``off``."""
    policies: tuple[str, ...] = ()
    """The shipped policies that would fix it."""


def proven(plan: Plan) -> tuple[Finding, ...]:
    """Return the proven findings that nobody has accepted and no change of the plan answers."""
    answered = {name for change in plan.changes for name in change.answers}
    return tuple(
        finding
        for finding in plan.scan.findings
        if finding.verdict == "proven" and not finding.waived and finding.id not in answered
    )


def left(plan: Plan, policy: Policy, others: Mapping[str, Policy]) -> tuple[Left, ...]:
    """Return what stays, each with those of ``others`` (by name) that fix it.

    None is named where ``policy`` itself fixes the condition: there the plan says why it did not.
    """
    return tuple(
        Left(
            finding.id,
            finding.condition,
            finding.subject,
            mode := rule_for(policy, finding.condition).mode,
            () if mode == "fix" else _fixing(finding.condition, others),
        )
        for finding in proven(plan)
    )


def _fixing(condition: str, policies: Mapping[str, Policy]) -> tuple[str, ...]:
    """Return those that fix a condition: from whatever verdict on, what is proven is past it."""
    return tuple(
        name for name, policy in policies.items() if rule_for(policy, condition).mode == "fix"
    )
