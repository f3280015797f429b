"""``remedy apply``: carry out a plan, and undo all of it if one step fails."""

from __future__ import annotations

import argparse
import json
import sys

from remedies.cli import (
    consenting,
    files,
    interrupted,
    leftover,
    outcome,
    plan,
    starting,
    waiting,
    writing,
)
from remedies.cli.parser import consenting as consent_options
from remedies.cli.parser import duration, warn, watching
from remedies.cli.plan import pruning
from remedies.cli.render import plan_text
from remedies.cli.terminal import Style
from remedies.errors import UsageError
from remedies.model import Plan
from remedies.operations import apply as operation
from remedies.operations import plans
from remedies.operations.apply import ApplyOptions
from remedies.operations.session import HostSession
from remedies.transaction.consent import Consent

EXAMPLES = (
    ("apply --dry-run", "show the diff and change nothing"),
    (
        "apply plan.json --confirm-timeout 120s",
        "undo it after two minutes unless 'remedy confirm' comes",
    ),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("plan", nargs="?", metavar="PLAN", help="a plan saved with 'plan -o'")
    watching(parser)
    pruning(parser)
    consent_options(parser)
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the change even if the fault is still there (not if the fix does harm)",
    )
    parser.add_argument(
        "--confirm-timeout",
        type=duration,
        metavar="TIME",
        help="undo everything unless 'remedy confirm' comes in time, from any session, even if "
        "this one is gone",
    )
    parser.add_argument(
        "--confirm",
        metavar="HOSTNAME",
        help="apply even what can cut this session off, and keep it at once; HOSTNAME must be "
        "this host's name",
    )
    wait = parser.add_mutually_exclusive_group()
    wait.add_argument(
        "--wait",
        action="store_true",
        default=None,
        help="wait until it is confirmed (exit 0) or undone (exit 7) and ask; the default on a "
        "terminal",
    )
    wait.add_argument(
        "--no-wait",
        action="store_false",
        dest="wait",
        help="return at once (exit 0) and leave it pending; the default without a terminal",
    )


def run(args: argparse.Namespace) -> int:
    """Apply and print; 0, 3, 4, 5, 6, 7 or 8 as README's table says."""
    if args.confirm_timeout == 0:
        raise UsageError("--confirm-timeout 0 leaves no time to confirm",
                         "give a time, or --confirm=HOSTNAME to keep it at once")  # fmt: skip
    if args.dry_run:
        return _dry_run(args)
    here = writing.start(args, "apply")
    return interrupted.told(here, lambda: _write(args, here))


def _request(args: argparse.Namespace) -> ApplyOptions:
    return ApplyOptions(
        saved=files.read_file(args.plan, "plan") if args.plan else None,
        path=args.plan or "",
        prune=args.prune,
        keep=args.keep,
        confirm_timeout=args.confirm_timeout,
        confirm=args.confirm,
        lock_timeout=args.lock_timeout,
    )


def _write(args: argparse.Namespace, here: HostSession) -> int:
    def show(made: Plan) -> None:
        if not args.json and not args.quiet:
            # What it ends with says the same.
            print(_text(args, made).removesuffix("\nNothing to change.\n"))
        else:
            starting.warn_of(made)

    def agree(_made: Plan) -> Consent:
        return consenting.ask(args, "Apply these changes?")

    ended, guard = operation.apply(here, _request(args), show, agree)
    if guard is not None and waits(args):
        ended = waiting.until_the_end(args, here, ended, guard)
    ended = operation.finish(here, ended)
    outcome.report(args, ended)
    if ended.stale is not None:
        warn(str(ended.stale))
    return outcome.code(ended)


def waits(args: argparse.Namespace) -> bool:
    """Tell whether to wait for the confirmation: as ``--wait`` says, else only on a terminal."""
    if args.wait is not None:
        return bool(args.wait)
    return not (args.no_input or args.json) and sys.stdin.isatty() and sys.stderr.isatty()


def _dry_run(args: argparse.Namespace) -> int:
    if not args.plan:
        args.output, args.detailed_exitcode = None, False
        return plan.run(args)
    here = starting.start(args)
    made = operation.preview(here, _request(args))
    if not args.json:
        print(_text(args, made))
    else:
        print(json.dumps(leftover.document(made, plans.left(here, made)), indent=2))
    return plan.refused(made)


def _text(args: argparse.Namespace, made: Plan) -> str:
    """Return a plan as text, its warnings on standard error."""
    starting.warn_of(made)
    return plan_text(made, Style(args), verbose=args.verbose) + "\n"
