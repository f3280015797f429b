"""How an apply ended, and how that is told."""

from __future__ import annotations

import argparse
import json

from remedies import codec
from remedies.cli import leftover
from remedies.cli.next_command import again
from remedies.cli.parser import warn
from remedies.cli.terminal import clean
from remedies.operations.apply import Ended
from remedies.planning import planfile
from remedies.printable import local


def code(ended: Ended) -> int:
    """Return the exit code of an apply."""
    codes = {"rolled-back": 3, "reverted": 7, "incomplete": 4, "stale": 5}
    refused = 8 if any(r.wanted for r in ended.plan.refused) else 0
    return codes.get(ended.outcome, refused)


def report(args: argparse.Namespace, ended: Ended) -> None:
    """Print how it ended."""
    if ended.unrecorded:
        warn(f"the journal does not say so: {ended.unrecorded}; free space, then 'remedy rollback' "
             "closes the transaction")  # fmt: skip
    if args.json:
        plain = planfile.scan_plain(ended.plan.scan, ended.plan.policy, "apply")
        plain.update(
            transaction=ended.transaction,
            outcome=ended.outcome,
            reason=ended.reason,
            changes=codec.encode(ended.plan.changes),
            refused=codec.encode(ended.plan.refused),
            pending_confirm_until=ended.until,
            verified=list(ended.verified),
            watched=float(args.window),
            stuck=list(ended.stuck),
            kept=codec.encode(ended.plan.kept),
            left=codec.encode(ended.left),
            lost_at_boot=list(ended.plan.lost_at_boot),
        )
        print(json.dumps(plain, indent=2))
        return
    print("\n".join(_lines(args, ended)))


_OUTCOMES = {
    "applied": "Applied",
    "nothing": "Nothing to do: the host is as policy wants it.",
    "refused": "Nothing was changed: what policy wants was refused.",
    "rolled-back": "Failed and rolled back: the host is as before.",
    "reverted": "Not confirmed, and reverted: the host is as before.",
    "incomplete": "Failed, and the rollback is incomplete.",
    "stale": "Nothing was changed: the plan is stale.",
}
_NEXT = {
    "applied": ("status", "watches it"),
    "nothing": ("status", "shows what is in force"),
    "refused": ("apply", "again once what the refusals name is mended"),
    "rolled-back": ("show", "tells what was tried"),
    "incomplete": ("show", "tells what was tried; mend what is stuck"),
    "stale": ("plan", "makes a new one"),
}
"""The verb to run next, and what it does; ``show`` is about this transaction."""


def _lines(args: argparse.Namespace, ended: Ended) -> list[str]:
    """Return the end of an apply as text."""
    name = f" as transaction {ended.transaction}." if ended.outcome == "applied" else ""
    lines = [_OUTCOMES[ended.outcome] + name]
    if ended.outcome == "nothing" and ended.plan.scan.unknown:
        lines = ["Nothing to do in what could be judged; see above for what could not."]
    if ended.outcome == "nothing" and (ended.left or ended.plan.kept):
        lines = ["Nothing was changed."]
    if ended.reason:
        lines.append(f"  {clean(ended.reason)}")
    lines += [f"  {v['condition']}: was {v['before']}, now {v['after']}" for v in ended.verified]
    if ended.outcome == "applied" and not args.window and not args.quiet:
        lines.append(f"  nothing was watched after the write (--window 0): "
                     f"'{again(args, 'verify')}' listens for harm")  # fmt: skip
    lines += [f"  stuck: {clean(item)}" for item in ended.stuck]
    if ended.outcome in ("applied", "nothing"):
        removed = (c for c in ended.plan.changes if c.action == "remove")
        lines += [f"  removed {clean(c.resource)}  (risk {c.risk})" for c in removed]
        lines += leftover.lines(args, ended.plan, ended.left)
    if ended.until is not None:
        lines.append(f"It is undone at {local(ended.until)} unless "
                     f"'{again(args, 'confirm')}' comes before.")  # fmt: skip
    elif ended.outcome in _NEXT and not args.quiet:
        verb, why = _NEXT[ended.outcome]
        words = (verb, ended.transaction) if verb == "show" else (verb,)
        undo = f", '{again(args, 'rollback')}' undoes it" if ended.outcome == "applied" else ""
        lines.append(f"Next: '{again(args, *words)}' {why}{undo}.")
    return lines
