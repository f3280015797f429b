"""Fixes in force that are no longer wanted: removed, or kept for another policy. Pure.

A policy removes what it put in force itself. What another policy put in force stays, and the plan
says so: ``remedy apply`` without the ``--policy`` of yesterday must not bring yesterday's outage
back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional

from remedies.model import VERDICTS, Change, Held, Kept, Refusal, Risk, Scan, Verdict
from remedies.planning.reads import Reads, diff
from remedies.values import dataclass

_RISK_OF: Mapping[Verdict, Risk] = {"proven": "high", "active": "high", "exposed": "moderate"}
"""How risky it is to remove what keeps a fault away, by the verdict for which it was applied."""


@dataclass(frozen=True)
class GivenBack:
    """What is removed, refused and kept of what is no longer wanted."""

    changes: tuple[Change, ...]
    refused: tuple[Refusal, ...]
    kept: tuple[Kept, ...]


def give_back(
    unwanted: Iterable[Held], policy: tuple[str, ...], scanned: Scan, reads: Reads
) -> GivenBack:
    """Return what ``policy`` (its names; none: whichever applied it) removes, refuses and keeps.

    ``unwanted`` is oldest first; the newest is given back first. Raises Unreadable where a
    resource cannot be read.
    """
    leaving = [
        entry
        for entry in reversed(list(unwanted))
        if not reads.same(entry.resource, reads.read(entry.resource), entry.base)
    ]
    foreign = {e.fix: e for e in leaving if policy and e.policy != policy}
    changes, refused = [], []
    for entry in leaving:
        if entry.fix in foreign:
            continue
        before = reads.read(entry.resource)
        if reads.same(entry.resource, before, entry.ours):
            changes.append(removal(entry, before, scanned, reads))
        else:
            reason = (
                f"{entry.resource} is no longer wanted by policy, but somebody changed it since "
                f"{entry.transaction}; check it, then run 'remedy rollback --force'"
            )
            refused.append(Refusal(fix=entry.fix, finding=None, reason=reason))
    kept = (_kept(entry, leaving) for entry in foreign.values())
    return GivenBack(tuple(changes), tuple(refused), tuple(kept))


def _kept(entry: Held, leaving: Iterable[Held]) -> Kept:
    resources = tuple(other.resource for other in leaving if other.fix == entry.fix)
    return Kept(entry.fix, resources, entry.policy, entry.transaction)


def removal(entry: Held, before: Optional[str], scanned: Scan, reads: Reads) -> Change:
    """Return the change that restores what was there before us."""
    risk, impact = _risk(entry, scanned)
    return Change(
        fix=entry.fix,
        finding=None,
        resource=entry.resource,
        action="remove" if reads.same(entry.resource, entry.base, None) else "update",
        before=before,
        after=entry.base,
        diff=diff(reads, entry.resource, before, entry.base),
        reversibility=entry.reversibility,
        risk=risk,
        impact=impact,
        boot=entry.boot,
    )


def _risk(entry: Held, scanned: Scan) -> tuple[Risk, str]:
    """Return the risk of restoring a resource, and the impact.

    A fault that cannot be judged now counts as one that comes back.
    """
    here = {f.condition for f in scanned.findings} | {
        u.condition for u in scanned.unknown if not u.partly
    }
    back = [finding for finding in entry.answered if finding.condition in here]
    impact = "the policy no longer asks for it: the value from before comes back"
    if not back:
        return "low", impact
    worst = max(back, key=lambda finding: VERDICTS.index(finding.verdict))
    return _RISK_OF.get(worst.verdict, "moderate"), (
        f"{impact}, and with it {worst.condition} on {worst.subject}, "
        f"which was {worst.verdict} when {entry.fix} was applied"
    )
