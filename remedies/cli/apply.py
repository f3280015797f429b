"""``remedy apply``: make a plan so, or undo everything when one step fails."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Optional

from remedies.cli.parser import consenting, duration
from remedies.cli.plan import pruning
from remedies.cli.scan import watching
from remedies.model import Held

if TYPE_CHECKING:
    from remedies.cli.outcome import Ended
    from remedies.cli.session import Session
    from remedies.cli.writing import Arming
    from remedies.model import Finding, Plan
    from remedies.status.harm import Harm
    from remedies.transaction.guard import Guard
    from remedies.transaction.journal import Journal


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("plan", nargs="?", metavar="PLAN", help="a plan saved with 'plan -o'")
    watching(parser)
    pruning(parser)
    consenting(parser)
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the change even if the fault is still there; not if it does harm",
    )
    parser.add_argument(
        "--confirm-timeout",
        type=duration,
        metavar="TIME",
        help="undo everything unless 'remedy confirm' comes in time, from any session, whatever "
        "becomes of this one",
    )
    parser.add_argument(
        "--confirm",
        metavar="HOSTNAME",
        help="apply even what can cut this session off, and keep it at once; the host's name says "
        "that you mean this one",
    )
    wait = parser.add_mutually_exclusive_group()
    wait.add_argument(
        "--wait",
        action="store_true",
        default=None,
        help="wait until it is confirmed (exit 0) or undone (exit 7); on a terminal that is the "
        "default, and the question can be answered there",
    )
    wait.add_argument(
        "--no-wait",
        action="store_false",
        dest="wait",
        help="return at once (exit 0) and leave it waiting; the default off a terminal",
    )


def run(args: argparse.Namespace) -> int:
    """Apply and print; 0, 3, 4, 5, 6, 7 or 8 as README's table says."""
    from remedies.cli import writing
    from remedies.errors import UsageError

    if args.confirm_timeout == 0:
        raise UsageError("--confirm-timeout 0 leaves no time to confirm",
                         "give a time, or --confirm=HOSTNAME to keep it at once")  # fmt: skip
    return _dry_run(args) if args.dry_run else writing.at_work("apply", args, _write)


def _write(args: argparse.Namespace, here: Session) -> int:
    from remedies.cli import leftover, saved, session, writing
    from remedies.cli.outcome import Ended, report
    from remedies.errors import StalePlan
    from remedies.transaction import lock
    from remedies.transaction.journal import Journal
    from remedies.values import replace

    arming = writing.Arming(here)
    with lock.held(here.folder, args.lock_timeout), Journal(here.folder) as journal:
        here = writing.recover(session.reread(here), journal)
        plan = saved.read(args, here) if args.plan else session.make_plan(here, prune=args.prune)[0]
        stale: Optional[StalePlan] = None
        try:
            if args.plan:
                plan = saved.again(here, plan)
            ended = _apply(args, here, plan, journal, arming)
        except StalePlan as error:
            stale, ended = error, Ended(plan, "stale", reason=str(error))
    # Told without the lock: a terminal that takes nothing must not keep the guard from its work.
    if ended.until is not None and arming.guard is not None and waits(args):
        ended = _await(args, here, ended, arming.guard)
    if ended.outcome in ("reverted", "rolled-back"):
        ended = replace(ended, verified=_undone(here, ended.verified))
    report(args, replace(ended, left=leftover.left(here, ended.plan)))
    if stale is not None:
        raise stale
    return ended.code


def waits(args: argparse.Namespace) -> bool:
    """Tell whether this session stays until the end: as told, else on a terminal."""
    import sys

    if args.wait is not None:
        return bool(args.wait)
    return not (args.no_input or args.json) and sys.stdin.isatty() and sys.stderr.isatty()


def _dry_run(args: argparse.Namespace) -> int:
    import json

    from remedies.cli import leftover, plan, saved, session, writing
    from remedies.cli.terminal import Style

    if not args.plan:
        args.output, args.detailed_exitcode = None, False
        return plan.run(args)
    here = session.start(args)
    made = saved.again(here, saved.read(args, here))
    if not args.json:
        print(writing.plan_text(args, made, Style(args)))
    else:
        print(json.dumps(leftover.document(made, leftover.left(here, made)), indent=2))
    return 8 if any(r.wanted for r in made.refused) else 0


def _apply(
    args: argparse.Namespace, here: Session, plan: Plan, journal: Journal, arming: Arming
) -> Ended:
    from remedies import codec
    from remedies.cli import writing
    from remedies.cli.outcome import Ended
    from remedies.cli.terminal import Style
    from remedies.transaction import run as transaction
    from remedies.transaction.host import HostResources

    if not args.json and not args.quiet:
        print(writing.plan_text(args, plan, Style(args)))
    else:
        writing.warn_of(plan)
    if not plan.changes:
        refused = any(r.wanted for r in plan.refused)
        return Ended(plan, "refused" if refused else "nothing")
    unasked = writing.default_confirm(here, plan) or 0.0
    agreed = writing.ask(args, "Apply these changes?")
    verified: list[dict[str, str]] = []

    def verify() -> transaction.Checked:
        verified[:], seen, harm = _verified(here, plan)
        still = [v["condition"] for v in verified if v["after"] == "still"]
        reason = f"the fault is still there: {', '.join(still)}" if still else None
        reason = None if args.keep else reason
        if harm:
            reason = f"it does harm: {harm[0].resource}: {harm[0].reason}"
        record = {"verified": codec.encode(verified), "findings": codec.encode(tuple(seen))}
        return transaction.Checked(reason, record if verified else {})

    wanted = args.confirm_timeout
    result = transaction.apply(
        HostResources(),
        journal,
        writing.begin(here, "apply", plan.changes, agreed, plan=plan),
        agreed,
        verify,
        arm=arming,
        confirm=unasked if wanted is None else wanted,
    )
    return Ended(
        plan,
        result.outcome,
        result.transaction,
        tuple(verified),
        f"{result.reason}; the guard goes on undoing" if result.open else result.reason,
        result.stuck,
        result.unrecorded,
        result.pending.until if result.pending else None,
    )


def _await(args: argparse.Namespace, here: Session, ended: Ended, guard: Guard) -> Ended:
    """Stay until the transaction is confirmed or undone."""
    from remedies.cli import confirm
    from remedies.values import replace

    entry = confirm.await_end(args, here, ended.transaction or "", ended.until or "", guard)
    if entry.outcome == "confirmed":
        return replace(ended, until=None)
    outcome = "incomplete" if entry.outcome == "incomplete" else "reverted"
    return replace(ended, outcome=outcome, until=None, reason=entry.reason, stuck=entry.stuck)


def _verified(
    here: Session, plan: Plan
) -> tuple[list[dict[str, str]], list[Finding], tuple[Harm, ...]]:
    """Run the detectors again, on evidence newer than the writing, and listen for harm.

    Return what they say, what they see, and the harm.
    """
    from remedies.cli import outlook, session
    from remedies.planning import engine

    written = [c for c in plan.changes if c.after is not None and not c.boot]
    answered = {name for change in plan.changes for name in change.answers}
    if not answered and not written:
        return [], [], ()
    held = {
        **here.held,
        **{c.resource: Held(c.resource, c.fix, c.before, c.after, "") for c in written},
    }
    for change in plan.changes:
        if change.after is None:
            held.pop(change.resource, None)
    here = session.with_ours(here, tuple(c.resource for c in plan.changes if c.after is not None))
    facts, harm = outlook.listen(
        here, held.values(), here.args.window, engine.needs_of_scan(here.policy)
    )
    scan, _ = session.judge(here, facts)
    now = {f.id: f.verdict for f in scan.findings}
    unknown = {u.condition for u in scan.unknown}
    words = {"mitigated": "mitigated", "unknown": "not-observable"}
    harmed = {item.fix for item in harm}
    bad = {name for change in written if change.fix in harmed for name in change.answers}
    verified = [
        {
            "finding": f.id,
            "condition": f.condition,
            "before": f.verdict,
            "after": "still"
            if f.id in bad
            else "not-observable"
            if f.condition in unknown
            else words.get(now[f.id], "still")
            if f.id in now
            else "absent",
        }
        for f in plan.scan.findings
        if f.id in answered
    ]
    return verified, [f for f in scan.findings if f.id in answered], harm


def _undone(here: Session, verified: tuple[dict[str, str], ...]) -> tuple[dict[str, str], ...]:
    """Return what was verified with the verdicts of now: the change is undone.

    What the detectors said while it was in force is no word about the host any more.
    """
    from remedies.cli import session

    if not verified:
        return ()
    here = session.reread(here)
    scan, _ = session.judge(here, session.look(here, for_plan=False))
    now: dict[str, str] = {f.id: f.verdict for f in scan.findings}
    unknown = {u.condition for u in scan.unknown}
    return tuple(
        {
            **item,
            "after": "not-observable"
            if item["condition"] in unknown
            else now.get(item["finding"], "absent"),
        }
        for item in verified
    )
