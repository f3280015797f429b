"""How an apply ended, and how that is told."""

from __future__ import annotations

import argparse
import json
from typing import Optional

from remedies import codec, planfile
from remedies.cli.parser import warn
from remedies.cli.terminal import clean
from remedies.model import Plan
from remedies.values import dataclass


@dataclass(frozen=True)
class Ended:
    """How an apply ended, as it is told."""

    plan: Plan
    outcome: str
    transaction: Optional[str] = None
    verified: tuple[dict[str, str], ...] = ()
    reason: str = ""
    stuck: tuple[str, ...] = ()
    unrecorded: str = ""
    until: Optional[str] = None
    """Until when it waits to be confirmed."""

    @property
    def code(self) -> int:
        """Return the exit code."""
        codes = {"rolled-back": 3, "reverted": 7, "incomplete": 4, "stale": 5}
        refused = 8 if any(r.wanted for r in self.plan.refused) else 0
        return codes.get(self.outcome, refused)


def report(args: argparse.Namespace, ended: Ended) -> None:
    """Print how it ended."""
    if ended.unrecorded:
        warn(f"the journal does not say so: {ended.unrecorded}; free space, then 'remedy rollback' "
             "closes the transaction")  # fmt: skip
    if args.json:
        plain = planfile.scan_plain(ended.plan.scan, "apply")
        plain.update(
            transaction=ended.transaction,
            outcome=ended.outcome,
            reason=ended.reason,
            changes=codec.encode(ended.plan.changes),
            refused=codec.encode(ended.plan.refused),
            pending_confirm_until=ended.until,
            verified=list(ended.verified),
            stuck=list(ended.stuck),
        )
        print(json.dumps(plain, indent=2))
        return
    print("\n".join(_lines(ended)))


_OUTCOMES = {
    "applied": "Applied",
    "nothing": "Nothing to do: the host is as policy wants it.",
    "refused": "Nothing was changed: what policy wants was refused.",
    "rolled-back": "Failed and rolled back: the host is as before.",
    "reverted": "Not confirmed, and reverted: the host is as before.",
    "incomplete": "Failed, and the rollback is incomplete.",
    "stale": "Nothing was changed: the plan is stale.",
}


def _lines(ended: Ended) -> list[str]:
    """Return the end of an apply as text."""
    name = f" as transaction {ended.transaction}." if ended.outcome == "applied" else ""
    lines = [_OUTCOMES[ended.outcome] + name]
    if ended.reason:
        lines.append(f"  {clean(ended.reason)}")
    lines += [f"  {v['condition']}: was {v['before']}, now {v['after']}" for v in ended.verified]
    lines += [f"  stuck: {clean(item)}" for item in ended.stuck]
    if ended.until is not None:
        lines.append(f"It is undone at {ended.until} unless 'remedy confirm' comes before.")
    elif ended.outcome == "applied":
        lines.append("Next: 'remedy status' watches it, 'remedy rollback' undoes it.")
    return lines
