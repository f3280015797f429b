"""Apply: write the changes of a plan, watch the host, and undo them if they do harm."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable
from typing import Optional

from remedies import codec
from remedies.errors import StalePlan
from remedies.model import Finding, Held, Plan, Scan
from remedies.netfilter.libnftables import one_process
from remedies.operations import outlook, plans, recovery, saved_plans, session, weigh
from remedies.operations.recovery import Arming
from remedies.operations.session import HostSession
from remedies.outcomes import UNDONE, Outcome
from remedies.planning import engine
from remedies.planning.remaining import Left
from remedies.rules import kinds
from remedies.status.harm import Harm
from remedies.transaction import lock
from remedies.transaction import run as transaction
from remedies.transaction.consent import Consent
from remedies.transaction.guard import Guard
from remedies.transaction.journal import Journal
from remedies.transaction.ledger import Transaction
from remedies.values import dataclass, replace


@dataclass(frozen=True)
class ApplyOptions:
    """What is to be applied, and how."""

    saved: Optional[str] = None
    """The text of a saved plan; None: one is made now."""
    path: str = ""
    """Where the saved plan came from, for messages."""
    prune: bool = False
    keep: bool = False
    """Keep the change even if the fault is still there; harm undoes it all the same."""
    confirm_timeout: Optional[float] = None
    confirm: Optional[str] = None
    """This host's name: apply even what can cut the session off."""
    lock_timeout: float = 0.0
    narrow: Optional[Callable[[Plan], Plan]] = None
    """Returns what of a plan made now is applied; None: all of it."""


@dataclass(frozen=True)
class Ended:
    """How an apply ended."""

    plan: Plan
    outcome: Outcome
    transaction: Optional[str] = None
    verified: tuple[dict[str, str], ...] = ()
    reason: str = ""
    stuck: tuple[str, ...] = ()
    unrecorded: str = ""
    until: Optional[str] = None
    """Until when it waits to be confirmed."""
    left: tuple[Left, ...] = ()
    """The proven faults that stay."""
    stale: Optional[StalePlan] = None
    """Why a saved plan was not applied."""


Agree = Callable[[Plan], Consent]
"""Asks a person about a plan with changes; returns their consent, or raises RemedyError."""


def apply(
    here: HostSession, request: ApplyOptions, show: Callable[[Plan], None], agree: Agree
) -> tuple[Ended, Optional[Guard]]:
    """Make a plan, or take the saved one, and apply it with the consent that ``agree`` returns.

    ``show`` is told of the plan first, whether it changes anything or not. Return how it ended and
    the guard that watches it, where it waits to be confirmed. Raises what recovery, planning and
    ``agree`` raise; nothing is written then.
    """
    arming = Arming(here)
    locked = lock.held(here.folder, request.lock_timeout)
    with locked, Journal(here.folder) as journal, one_process():
        here = recovery.recover(session.reread(here), journal)
        if request.saved is None:
            plan, _ = plans.make(here, prune=request.prune)
            plan = request.narrow(plan) if request.narrow else plan
        else:
            plan = saved_plans.read(here, request.saved, request.path)
        try:
            if request.saved is not None:
                plan = saved_plans.again(here, plan)
            ended = _apply(here, request, plan, journal, arming, show, agree)
        except StalePlan as error:
            ended = Ended(plan, "stale", reason=str(error), stale=error)
    return ended, arming.guard if ended.until is not None else None


def preview(here: HostSession, request: ApplyOptions) -> Plan:
    """Return the saved plan of a request as it would be applied now; nothing is written."""
    return saved_plans.again(here, saved_plans.read(here, request.saved or "", request.path))


def settled(ended: Ended, entry: Transaction) -> Ended:
    """Return how an apply ended, from its transaction, which was confirmed or undone since."""
    if entry.outcome == "confirmed":
        return replace(ended, until=None)
    outcome: Outcome = "incomplete" if entry.outcome == "incomplete" else "reverted"
    return replace(ended, outcome=outcome, until=None, reason=entry.reason, stuck=entry.stuck)


def finish(here: HostSession, ended: Ended) -> Ended:
    """Return ``ended`` with the proven faults that stay and, if it was undone, today's verdicts."""
    if ended.outcome in UNDONE:
        ended = replace(ended, verified=_undone(here, ended.verified))
    return replace(ended, left=plans.left(here, ended.plan))


def _apply(
    here: HostSession,
    request: ApplyOptions,
    plan: Plan,
    journal: Journal,
    arming: Arming,
    show: Callable[[Plan], None],
    agree: Agree,
) -> Ended:
    show(plan)
    if not plan.changes:
        return Ended(plan, "refused" if plan.refuses else "nothing")
    unasked = weigh.confirm_time(here, plan, request.confirm_timeout, request.confirm)
    agreed = agree(plan)
    verified: list[dict[str, str]] = []

    def verify() -> transaction.CheckedChange:
        verified[:], seen, harm = _verified(here, plan)
        record = {"verified": codec.encode(verified), "findings": codec.encode(tuple(seen))}
        why = unwell(verified, harm, keep=request.keep, seen=seen)
        return transaction.CheckedChange(why, record if verified else {})

    result = transaction.apply(
        here.store,
        journal,
        recovery.begin(here, "apply", plan.changes, agreed, plan=plan),
        agreed,
        verify,
        arm=arming,
        confirm=(unasked or 0.0) if request.confirm_timeout is None else request.confirm_timeout,
    )
    return Ended(
        plan,
        result.outcome,
        result.transaction,
        tuple(verified),
        f"{result.reason}; the guard continues to undo it" if result.open else result.reason,
        result.stuck,
        result.unrecorded,
        result.pending.until if result.pending else None,
    )


def unwell(
    verified: list[dict[str, str]],
    harm: tuple[Harm, ...],
    *,
    keep: bool,
    seen: Iterable[Finding] = (),
) -> Optional[str]:
    """Return why a change has to be undone, or None.

    ``keep``: a change that has not helped may stay; one that does harm may not.
    """
    if harm:
        return f"the fix does harm: {harm[0].resource}: {harm[0].reason}"
    still = [v["condition"] for v in verified if v["after"] == "still"]
    if not still or keep:
        return None
    hangs = [f"; {f.details['hangs']} hangs" for f in seen if "hangs" in f.details]
    return f"the fault is still there: {', '.join(still)}{''.join(hangs[:1])}"


def _verified(
    here: HostSession, plan: Plan
) -> tuple[list[dict[str, str]], list[Finding], tuple[Harm, ...]]:
    """Run the detectors of what was answered on evidence from after the write; listen for harm.

    Return the verdicts as text, the findings, and the harm.
    """
    made = [c for c in plan.changes if c.after is not None]
    answered = {name for change in plan.changes for name in change.answers}
    if not answered and all(c.boot for c in made):
        return [], [], ()
    removed = {c.resource for c in plan.changes if c.after is None}
    as_if = {c.resource: Held(c.resource, c.fix, c.before, c.after, "") for c in made}
    here = replace(here, held={**here.held, **as_if}, read_at=())  # the journal has no end yet
    held = [entry for name, entry in here.held.items() if name not in removed]
    only = engine.with_causes(f.condition for f in plan.scan.findings if f.id in answered)
    needed = engine.needs_of_scan(here.policy, only)
    facts, harm = outlook.listen(here, held, here.window, needed)
    scan, _ = session.judge(here, facts, only)
    return verdicts(plan, scan, harm), [f for f in scan.findings if f.id in answered], harm


def verdicts(plan: Plan, scan: Scan, harm: Collection[Harm]) -> list[dict[str, str]]:
    """Return what became of each answered finding, by the scan after the write."""
    answered = {name for change in plan.changes for name in change.answers}
    ended = {c.resource for c in plan.changes if not kinds.comes_back(c.resource)}
    now = {f.id: f.verdict for f in scan.findings if not ended_others(f, answered, ended)}
    # A connection that hangs is no reason to undo what was done before anything failed.
    early = {f.id for f in plan.scan.findings if f.verdict == "exposed"}
    now.update((f.id, "mitigated") for f in scan.findings if f.id in early and "hangs" in f.details)
    unknown = {u.condition for u in scan.unknown if not u.partly}
    harmed = {item.fix for item in harm}
    bad = {name for change in plan.changes if change.fix in harmed for name in change.answers}

    def after(finding: Finding) -> str:
        if finding.id in bad:
            return "still"
        if finding.condition in unknown:
            return "not-observable"
        seen = now.get(finding.id, "absent")
        return {"absent": seen, "mitigated": seen, "unknown": "not-observable"}.get(seen, "still")

    return [
        {"finding": f.id, "condition": f.condition, "before": f.verdict, "after": after(f)}
        for f in plan.scan.findings
        if f.id in answered
    ]


def ended_others(finding: Finding, answered: Container[str], ended: Collection[str]) -> bool:
    """Tell whether an answered finding is about other flows than those that were to be ended."""
    flows = [f"flow:{path}" for path in finding.details.get("stale", "").split()]
    return bool(ended and flows) and finding.id in answered and not any(f in ended for f in flows)


def _undone(here: HostSession, verified: tuple[dict[str, str], ...]) -> tuple[dict[str, str], ...]:
    """Return the verified conditions with their verdicts after the change was undone.

    The verdicts from while it was in force no longer describe the host.
    """
    if not verified:
        return ()
    here = session.reread(here)
    only = engine.with_causes(item["condition"] for item in verified)
    facts = session.look(here, for_plan=False, kinds=engine.needs_of_scan(here.policy, only))
    scan, _ = session.judge(here, facts, only)
    now: dict[str, str] = {f.id: f.verdict for f in scan.findings}
    unknown = {u.condition for u in scan.unknown if not u.partly}
    return tuple(
        {
            **item,
            "after": "not-observable"
            if item["condition"] in unknown
            else now.get(item["finding"], "absent"),
        }
        for item in verified
    )
