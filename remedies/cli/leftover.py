"""What a plan leaves undone, as the last lines of plan and apply: never "nothing to do"."""

from __future__ import annotations

import argparse
from typing import Any, Optional

from remedies import codec
from remedies import policy as policies
from remedies.boot.units import units_among
from remedies.cli.next_command import again
from remedies.cli.terminal import clean
from remedies.model import Plan
from remedies.planning import planfile
from remedies.planning.advice import texts
from remedies.planning.remaining import Left


def document(plan: Plan, stays: tuple[Left, ...]) -> dict[str, Any]:
    """Return a plan, and what it leaves, as plain JSON values."""
    return {**planfile.plan_plain(plan, texts(plan)), "left": codec.encode(stays)}


def lines(args: argparse.Namespace, plan: Plan, stays: tuple[Left, ...]) -> list[str]:
    """Return a line for each proven fault that stays, and what the next boot does to changes."""
    told = [_line(args, plan, each) for each in stays]
    if plan.lost_at_boot:
        told.append(
            f"Lost at the next boot: {', '.join(plan.lost_at_boot)}; "
            f"'{again(args, 'init', '--persist', policy=_unnamed(args))}' makes fixes last."
        )
    units = units_among(c.resource for c in plan.changes if c.action != "remove")
    if units:
        told.append(
            f"Restored at every boot by {', '.join(units)}. If a firewall may be restarted before "
            f"the next one: 'systemctl daemon-reload', then 'systemctl start {' '.join(units)}'."
        )
    return [clean(line) for line in told]


def _unnamed(args: argparse.Namespace) -> Optional[str]:
    """Return the policy that the command line does not name itself."""
    return None if "policy" in args.typed else (args.policy or policies.DEFAULT)[0]


def _line(args: argparse.Namespace, plan: Plan, stays: Left) -> str:
    named = " + ".join(plan.policy.names)
    fault = f"Proven and not fixed: {stays.condition} on {stays.subject}"
    if stays.mode == "fix":
        return f"{fault}: see what is refused or advised above."
    does = "only advises on it" if stays.mode == "advise" else "is switched off for it"
    if not stays.policies:
        return f"{fault}: policy {named} {does}; this needs a person: see the advice above."
    other = again(args, "plan", policy=stays.policies[0])
    return f"{fault}: policy {named} {does}; '{other}' shows what fixes it."
