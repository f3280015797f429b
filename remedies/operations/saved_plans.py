"""Plans that were saved: read back from a file, and made again before they are applied."""

from __future__ import annotations

from remedies.errors import InputError
from remedies.model import SEEN, Plan
from remedies.operations import session, weigh
from remedies.operations.session import HostSession
from remedies.planning import remake, savedplan
from remedies.transaction.run import check_fresh
from remedies.values import replace


def read(here: HostSession, text: str, path: str) -> Plan:
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
    seen = any(finding.verdict in SEEN for finding in plan.answered)
    facts = session.look(
        here,
        for_plan=True,
        window=here.window if seen else 0.0,  # only who listens can see it again
        uses=tuple((c.fix, terms.params) for c in plan.changes for _, terms in c.uses),
    )
    scan, warnings = session.judge(here, facts)
    made = remake.remake(plan, remake.Today(facts, scan, here.held, here.store))
    made = replace(made, warnings=warnings)
    return weigh.weigh(here, made, facts) if made.changes else made
