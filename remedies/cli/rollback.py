"""``remedy rollback``: restore what was there before us, unless somebody changed it since."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable

from remedies import codec
from remedies.cli import consenting, interrupted, starting, writing
from remedies.cli.next_command import again
from remedies.cli.parser import consenting as consent_options
from remedies.cli.parser import warn
from remedies.cli.render import OF_ROLLBACK, changes_text
from remedies.cli.terminal import Style, clean
from remedies.model import FORMAT_VERSION, Change
from remedies.operations import naming, rollback
from remedies.operations.rollback import RolledBack, Which
from remedies.operations.session import HostSession
from remedies.outcomes import ANSWERS
from remedies.transaction.consent import Consent

EXAMPLES = (
    ("rollback", "undo the last transaction"),
    ("rollback --fix invalid-drop --dry-run", "show what undoing one fix would change"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "transaction",
        nargs="?",
        metavar="TXN",
        help="its id, the beginning of one, or 'last'; see 'remedy history'",
    )
    which.add_argument("--fix", metavar="ID", help="undo everything this fix has in force")
    which.add_argument("--every", action="store_true", help="undo everything that is in force")
    which.add_argument(
        "--unowned",
        action="store_true",
        help="remove tables remedy_*, chains REMEDY-* and boot files that are not in this "
        "journal (see 'status')",
    )
    consent_options(parser)
    parser.add_argument(
        "--force", action="store_true", help="overwrite values that somebody changed since"
    )


def run(args: argparse.Namespace) -> int:
    """Roll back and print; 0, 1 where drift left all in force, 4 where some of it is."""
    if args.dry_run:
        here = starting.start(args, of_journal=True)
        changes = rollback.preview(here, _which(args, here))
        _print(args, RolledBack("nothing", changes=changes))
        return 0
    here = writing.start(args, "rollback")
    which = _which(args, here)
    return interrupted.told(here, lambda: _write(args, here, which))


def _which(args: argparse.Namespace, here: HostSession) -> Which:
    named = naming.transaction_id(here.folder, args.transaction)
    return Which(named, args.fix, args.every, args.unowned)


def _write(args: argparse.Namespace, here: HostSession, which: Which) -> int:
    def agree(changes: tuple[Change, ...]) -> Consent:
        if not args.json and not args.quiet:
            _print_changes(args, changes)
        return consenting.ask(args, "Undo this?")

    done = rollback.roll_back(here, which, agree, force=args.force, lock_timeout=args.lock_timeout)
    _print(args, done)
    for line in done.stuck:
        warn(f"stuck: {line}")
    return ANSWERS["rollback", done.outcome].code


def _print_changes(args: argparse.Namespace, changes: Iterable[Change]) -> None:
    print("\n".join(changes_text(changes, Style(args), OF_ROLLBACK)))


def _print(args: argparse.Namespace, done: RolledBack) -> None:
    if args.json:
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": "rollback",
            "transactions": list(done.transactions),
            "outcome": done.outcome,
            "changes": codec.encode(list(done.changes)),
            "drift": list(done.drift),
        }
        print(json.dumps(plain, indent=2))
        return
    if args.dry_run and done.changes:
        _print_changes(args, done.changes)
    answer = ANSWERS["rollback", done.outcome]
    text = "Nothing was changed." if done.outcome == "nothing" and done.changes else answer.text
    print(text.format(", ".join(done.transactions)))
    for line in done.drift:
        print(f"  {clean(line)}")
    if not args.quiet and answer.next:
        print(f"Next: '{again(args, answer.next)}' {answer.why}.")
    elif not args.quiet and args.dry_run and done.changes:
        print("Next: the same without --dry-run.")
