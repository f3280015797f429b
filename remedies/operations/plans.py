"""Plans made from the host as it is now, and the proven faults that they leave."""

from __future__ import annotations

from remedies import policy as policies
from remedies import shipped
from remedies.facts import Facts
from remedies.model import Plan
from remedies.netfilter.libnftables import one_process
from remedies.operations import session, weigh
from remedies.operations.session import HostSession
from remedies.planning import plan as planning
from remedies.planning import remaining
from remedies.planning.remaining import Left


def make(here: HostSession, *, prune: bool) -> tuple[Plan, Facts]:
    """Scan and plan on the host as it is; return the facts, too."""
    facts = session.look(here, for_plan=True)
    scanned, warnings = session.judge(here, facts)
    with one_process():
        plan = planning.plan(
            here.policy, facts, scanned, here.held, here.store, prune=prune, warnings=warnings
        )
    return (weigh.weigh(here, plan, facts) if plan.changes else plan), facts


def left(here: HostSession, plan: Plan) -> tuple[Left, ...]:
    """Return the proven faults that a plan leaves; other policies are read only for them."""
    if not remaining.proven(plan):
        return ()
    others = {name: policies.load((name,), here.cache) for name in shipped.POLICIES}
    return remaining.left(plan, here.policy, others)
