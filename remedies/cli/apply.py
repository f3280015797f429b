"""``remedy apply``: make a plan so, or undo everything when one step fails."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Optional

from remedies.cli.plan import pruning
from remedies.cli.scan import watching

if TYPE_CHECKING:
    from remedies.cli.session import Session
    from remedies.model import Finding, Plan
    from remedies.transaction.journal import Journal

HELP = "apply a plan (a saved one, or one made now); undo all of it when a step fails"


def consenting(parser: argparse.ArgumentParser) -> None:
    """Add the options that every writing verb has."""
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="show the diff and change nothing"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("plan", nargs="?", metavar="PLAN", help="a plan saved with 'plan -o'")
    watching(parser)
    pruning(parser)
    consenting(parser)
    parser.add_argument(
        "--keep", action="store_true", help="keep the change even if the fault is still there"
    )


def run(args: argparse.Namespace) -> int:
    """Apply and print; 0, 1, 3, 4, 5, 6 or 8 as cli.md says."""
    from remedies.cli import session, writing
    from remedies.errors import StalePlan
    from remedies.transaction import lock
    from remedies.transaction.journal import Journal

    if args.dry_run:
        return _dry_run(args)
    writing.need_root("apply")
    here = session.start(args)
    folder = writing.prepare(here)
    with lock.held(folder, args.lock_timeout), Journal(folder) as journal:
        here = writing.recover(session.reread(here), journal)
        plan = _saved(args, here) if args.plan else session.make_plan(here, prune=args.prune)[0]
        try:
            if args.plan:
                _check_reasons(here, plan)
            return _apply(args, here, plan, journal)
        except StalePlan as error:
            _report(args, plan, "stale", reason=str(error))
            raise


def _dry_run(args: argparse.Namespace) -> int:
    from remedies.cli import plan, session, writing
    from remedies.cli.terminal import Style

    if not args.plan:
        args.output, args.detailed_exitcode = None, False
        return plan.run(args)
    here = session.start(args)
    saved = _saved(args, here)
    _check_reasons(here, saved)
    if not args.json:
        print(writing.plan_text(args, saved, Style(args)))
    else:
        _report(args, saved, "nothing")
    return 0


def _saved(args: argparse.Namespace, here: Session) -> Plan:
    """Read a saved plan and make sure that it speaks of this host."""
    from remedies import planfile
    from remedies.cli import session
    from remedies.errors import InputError

    plan = planfile.plan_from_json(session.read_file(args.plan), args.plan)
    made, this = plan.scan.host, here.host
    if (made.machine_id, made.netns) != (this.machine_id, this.netns):
        raise InputError(
            f"{args.plan}: made on {made.name} (namespace {made.netns}), not on {this.name} "
            f"(namespace {this.netns})",
            "make a plan here",
        )
    return plan


def _check_reasons(here: Session, plan: Plan) -> None:
    """Raise StalePlan where a finding is gone or a guard now says no."""
    from remedies import planning
    from remedies.cli import session
    from remedies.errors import StalePlan

    facts = session.look(here, for_plan=True, window=0.0)
    scan, _ = session.judge(here, facts)
    found = {f.id: f for f in scan.findings}
    planned = {f.id: f for f in plan.scan.findings}
    for change in plan.changes:
        held = here.held.get(change.resource)
        if held is not None and change.after == held.base:
            continue
        finding: Optional[Finding] = None
        if change.finding is not None:
            finding = found.get(change.finding)
            if finding is None:
                was = planned[change.finding]
                raise StalePlan(
                    f"{was.condition} on {was.subject} moved: the plan found it {was.verdict}, "
                    "now it is absent",
                    "make a new plan",
                )
        reason = planning.refusal(change.fix, finding, facts, change.terms)
        if reason is not None:
            raise StalePlan(f"{change.fix} was possible and is refused now: {reason}",
                            "make a new plan")  # fmt: skip


def _apply(args: argparse.Namespace, here: Session, plan: Plan, journal: Journal) -> int:
    from remedies.cli import writing
    from remedies.cli.terminal import Style
    from remedies.transaction import run as transaction
    from remedies.transaction.host import HostResources

    refused = any(r.wanted for r in plan.refused)
    if not args.json and not args.quiet:
        print(writing.plan_text(args, plan, Style(args)))
    if not plan.changes:
        _report(args, plan, "refused" if refused else "nothing")
        return 8 if refused else 0
    writing.ask(args, "Apply these changes?")
    verified: list[dict[str, str]] = []

    def verify() -> Optional[str]:
        verified[:] = _verified(here, plan)
        still = [v["condition"] for v in verified if v["after"] == "still"]
        if still and not args.keep:
            return f"the fault is still there: {', '.join(still)}"
        return None

    begin = writing.begin(here, "apply", plan.changes, plan=plan)
    result = transaction.apply(HostResources(), journal, begin, verify)
    _report(
        args,
        plan,
        result.outcome,
        transaction=result.transaction,
        verified=verified,
        reason=result.reason,
        stuck=result.stuck,
    )
    return {"applied": 8 if refused else 0, "rolled-back": 3, "incomplete": 4}[result.outcome]


def _verified(here: Session, plan: Plan) -> list[dict[str, str]]:
    """Run the detectors again, on evidence newer than the writing."""
    from remedies.cli import session

    answered = {c.finding for c in plan.changes if c.finding is not None}
    if not answered:
        return []
    here = session.with_ours(here, tuple(c.resource for c in plan.changes if c.after is not None))
    scan, _ = session.judge(here, session.look(here, for_plan=False))
    now = {f.id: f.verdict for f in scan.findings}
    unknown = {u.condition for u in scan.unknown}
    words = {"mitigated": "mitigated", "unknown": "not-observable"}
    return [
        {
            "finding": f.id,
            "condition": f.condition,
            "before": f.verdict,
            "after": "not-observable"
            if f.condition in unknown
            else words.get(now[f.id], "still")
            if f.id in now
            else "absent",
        }
        for f in plan.scan.findings
        if f.id in answered
    ]


def _report(
    args: argparse.Namespace,
    plan: Plan,
    outcome: str,
    *,
    transaction: Optional[str] = None,
    verified: Optional[list[dict[str, str]]] = None,
    reason: str = "",
    stuck: tuple[str, ...] = (),
) -> None:
    """Print how it ended."""
    import json

    from remedies import codec, planfile
    from remedies.cli import writing

    if args.json:
        plain = planfile.scan_plain(plan.scan, "apply")
        plain.update(
            transaction=transaction,
            outcome=outcome,
            reason=reason,
            changes=codec.encode(plan.changes),
            refused=codec.encode(plan.refused),
            pending_confirm_until=None,
            verified=verified or [],
            stuck=list(stuck),
        )
        print(json.dumps(plain, indent=2))
        return
    for line in writing.outcome_lines(outcome, transaction, verified or [], reason, stuck):
        print(line)
