"""Plans: made from the host as it is, or read back from a file and made again."""

from __future__ import annotations

from remedies import policy as policies
from remedies import shipped
from remedies.errors import InputError
from remedies.facts import Facts
from remedies.model import Plan
from remedies.operations import session, weigh
from remedies.operations.session import HostSession
from remedies.planning import plan as planning
from remedies.planning import remaining, remake, savedplan
from remedies.planning.remaining import Left
from remedies.transaction.run import check_fresh
from remedies.values import replace


def make(here: HostSession, *, prune: bool) -> tuple[Plan, Facts]:
    """Scan and plan on the host as it is; return the facts, too."""
    facts = session.look(here, for_plan=True)
    scanned, warnings = session.judge(here, facts)
    plan = planning.plan(
        here.policy, facts, scanned, here.held, here.store, prune=prune, warnings=warnings
    )
    return (weigh.weigh(here, plan, facts) if plan.changes else plan), facts


def saved(here: HostSession, text: str, path: str) -> Plan:
    """Return the plan that a file holds; raise InputError where it is none of this host."""
    plan = savedplan.read(text, path)
    made, this = plan.scan.host, here.host
    if (made.machine_id, made.netns) != (this.machine_id, this.netns):
        raise InputError(
            f"{path}: made on {made.name} (namespace {made.netns}), not on {this.name} "
            f"(namespace {this.netns})",
            "make a plan here",
        )
    return plan


def again(here: HostSession, plan: Plan) -> Plan:
    """Return a saved plan as it is made now, which is what is shown and applied.

    Raises StalePlan where something has moved, InputError where the plan is not what its fixes
    make.
    """
    check_fresh(here.store, plan.changes)
    seen = any(finding.verdict in ("active", "proven") for finding in plan.answered)
    facts = session.look(
        here,
        for_plan=True,
        window=here.window if seen else 0.0,  # only who listens can see it again
        fixes=tuple(c.fix for c in plan.changes),
    )
    scan, warnings = session.judge(here, facts)
    made = remake.remake(plan, remake.Today(facts, scan, here.held, here.store))
    made = replace(made, warnings=warnings)
    return weigh.weigh(here, made, facts) if made.changes else made


def left(here: HostSession, plan: Plan) -> tuple[Left, ...]:
    """Return the proven faults that stay; other policies are read only where there are any."""
    if not remaining.proven(plan):
        return ()
    others = {name: policies.load((name,), here.cache) for name in shipped.POLICIES}
    return remaining.left(plan, here.policy, others)
