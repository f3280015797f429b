"""How an apply ended: its exit code and its text."""

from __future__ import annotations

import argparse
import json

from remedies import codec
from remedies.cli import leftover, plan
from remedies.cli.next_command import again
from remedies.cli.parser import warn
from remedies.cli.terminal import clean
from remedies.local_time import local
from remedies.operations.apply import Ended
from remedies.outcomes import ANSWERS
from remedies.planning import planfile
from remedies.planning.engine import unjudged


def code(ended: Ended) -> int:
    """Return the exit code of an apply."""
    return ANSWERS["apply", ended.outcome].code or plan.refused(ended.plan)


def report(args: argparse.Namespace, ended: Ended) -> None:
    """Print how it ended."""
    if ended.unrecorded:
        warn(f"the journal has no record of it: {ended.unrecorded}; free space, then "
             "'remedy rollback' closes the transaction")  # fmt: skip
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


def _lines(args: argparse.Namespace, ended: Ended) -> list[str]:
    """Return the end of an apply as text."""
    answer = ANSWERS["apply", ended.outcome]
    lines = [answer.text.format(ended.transaction)]
    if ended.outcome == "nothing" and unjudged(ended.plan.scan):
        lines = ["Nothing to do for what could be judged; see above for what could not."]
    if ended.outcome == "nothing" and (ended.left or ended.plan.kept):
        lines = ["Nothing was changed."]
    if ended.reason and ended.stale is None:  # that one is on standard error
        lines.append(f"  {clean(ended.reason)}")
    lines += [f"  {v['condition']}: was {v['before']}, now {v['after']}" for v in ended.verified]
    if ended.outcome == "applied" and not args.window and not args.quiet:
        lines.append(f"  no watch after the write (--window 0): "
                     f"'{again(args, 'verify')}' watches for harm")  # fmt: skip
    lines += [f"  stuck: {clean(item)}" for item in ended.stuck]
    if ended.outcome in ("applied", "nothing"):
        removed = (c for c in ended.plan.changes if c.action == "remove")
        lines += [f"  removed {clean(c.resource)}  (risk {c.risk})" for c in removed]
        lines += leftover.lines(args, ended.plan, ended.left)
    if ended.until is not None:
        lines.append(f"It is undone at {local(ended.until)} unless "
                     f"'{again(args, 'confirm')}' is run before.")  # fmt: skip
    elif answer.next and not args.quiet:
        words = (answer.next, ended.transaction) if answer.next == "show" else (answer.next,)
        undo = f", '{again(args, 'rollback')}' undoes it" if ended.outcome == "applied" else ""
        lines.append(f"Next: '{again(args, *words)}' {answer.why}{undo}.")
    return lines
