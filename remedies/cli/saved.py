"""How a saved plan comes into ``apply``: read, found to speak of this host, and made again."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from remedies.cli import session
from remedies.errors import InputError
from remedies.planning import remake, savedplan
from remedies.transaction.host import HostResources
from remedies.transaction.run import check_fresh
from remedies.values import replace

if TYPE_CHECKING:
    from remedies.cli.session import Session
    from remedies.model import Plan


def read(args: argparse.Namespace, here: Session) -> Plan:
    """Return the plan of the command line; raise InputError where it is none of this host."""
    plan = savedplan.read(session.read_file(args.plan, "plan"), args.plan)
    made, this = plan.scan.host, here.host
    if (made.machine_id, made.netns) != (this.machine_id, this.netns):
        raise InputError(
            f"{args.plan}: made on {made.name} (namespace {made.netns}), not on {this.name} "
            f"(namespace {this.netns})",
            "make a plan here",
        )
    return plan


def again(here: Session, plan: Plan) -> Plan:
    """Return the plan as it is made now, which is what is shown and applied.

    Raises StalePlan where something has moved, InputError where the plan is not what its fixes
    make.
    """
    from remedies.cli import weighing

    reads = HostResources()
    check_fresh(reads, plan.changes)
    facts = session.look(here, for_plan=True, window=0.0, fixes=tuple(c.fix for c in plan.changes))
    scan, warnings = session.judge(here, facts)
    made = remake.remake(plan, remake.Today(facts, scan, here.held, reads))
    made = replace(made, warnings=warnings)
    return weighing.weigh(here, made, facts) if made.changes else made
