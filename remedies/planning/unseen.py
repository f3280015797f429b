"""Fixes for a fault that was not seen: none that can end connections that work.

New plans and saved plans that are made again are checked by the same functions. Pure.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Optional

from remedies import catalogue
from remedies.model import Finding, Held, Policy


def accepts(policy: Policy, condition: str, fix: str) -> bool:
    """Tell whether a policy accepts the harm of a fix: it says so, or it requires the fix."""
    rule = policy.rules.get(condition)
    named = rule is not None and fix in rule.accept_harm
    return named or any(standing.fix == fix for standing in policy.require)


def must_be_harmless(
    finding: Finding, fix: str, held: Mapping[str, Held], *, accepted: bool
) -> bool:
    """Return whether a fix is refused for this finding if it can end connections that work.

    That is so for a fault that was not seen, unless policy accepts it, or the fix is in force for
    this finding (a standing fix has none on record).
    """
    if finding.verdict != "exposed" or accepted:
        return False
    in_force_for = [entry.answered for entry in held.values() if entry.fix == fix]
    return all(found and finding.id not in {f.id for f in found} for found in in_force_for)


def could_harm(finding: Finding, fix: str, tried: Container[str] = ()) -> Optional[str]:
    """Return why a fix is refused for a fault that was not seen, or None for a harmless fix.

    ``tried``: the fixes that policy has for the condition, which need no mention.
    """
    if catalogue.fix(fix).HARMLESS:
        return None
    others = [other for other in catalogue.harmless(finding.condition) if other not in tried]
    use = f"use {' or '.join(others)}, or " if others else ""
    return (
        f"the fault was not seen, and {fix} can end connections that work "
        f"('remedy explain {fix}' lists them): {use}accept that with "
        f"'accept_harm: [{fix}]' in the policy's rule for {finding.condition}"
    )
