"""``remedy confirm``: keep a pending transaction; from any session."""

from __future__ import annotations

import argparse
import json

from remedies.cli import starting, writing
from remedies.cli.next_command import again
from remedies.cli.render import changes_text
from remedies.cli.terminal import Style, clean
from remedies.model import FORMAT_VERSION, Change
from remedies.operations import confirm, naming, unowned
from remedies.operations.confirm import Confirmed
from remedies.outcomes import ANSWERS, Outcome

EXAMPLES = (
    ("confirm", "keep what waits for confirmation"),
    ("confirm --unowned --dry-run", "list rules of remedy that are not in the journal"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "transaction",
        nargs="?",
        metavar="TXN",
        help="its id, the beginning of one, or 'last' (default: the one that waits for "
        "confirmation)",
    )
    which.add_argument(
        "--unowned",
        action="store_true",
        help="adopt tables remedy_*, chains REMEDY-* and boot files that are not in this "
        "journal: record them as they are; 'rollback' removes them",
    )
    parser.add_argument(
        "-n",
        "--dry-run",
        action="store_true",
        help="show what would be kept and which boot files would be written; change nothing",
    )
    parser.set_defaults(change_id="", message="", approved_by="")


def run(args: argparse.Namespace) -> int:
    """Confirm and print; 0 if it is kept or nothing is pending, 7 if it was undone already."""
    if args.dry_run:
        return _dry_run(args)
    here = writing.start(args, "confirm")
    if args.unowned:
        entry = confirm.adopt_unowned(here, lock_timeout=args.lock_timeout)
        return _adopted(args, entry.begin.changes if entry else (), entry.id if entry else "")
    wanted = naming.transaction_id(here.folder, args.transaction)
    done = confirm.confirm(here, wanted, lock_timeout=args.lock_timeout)
    _print(args, done)
    return ANSWERS["confirm", done.outcome].code


def _dry_run(args: argparse.Namespace) -> int:
    here = starting.start(args, of_journal=True)
    if args.unowned:
        return _adopted(args, unowned.adoptions(here), "")
    entry = confirm.would_keep(here, naming.transaction_id(here.folder, args.transaction))
    if entry is None or args.json:
        _print(args, Confirmed("nothing", entry.id if entry else ""))
        return 0
    boot = [change for change in entry.begin.changes if change.boot]
    print("\n".join(changes_text(boot, Style(args))), end="")
    print(f"Transaction {entry.id} would be kept; {len(boot)} boot files would be written.")
    return 0


def _adopted(args: argparse.Namespace, changes: tuple[Change, ...], name: str) -> int:
    """Print what was adopted as transaction ``name``, or would be."""
    resources = [change.resource for change in changes]
    outcome: Outcome = "adopted" if name else "nothing"
    answer = ANSWERS["adopt", outcome]
    if args.json:
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": "confirm",
            "transaction": name or None,
            "outcome": outcome,
            "resources": resources,
        }
        print(json.dumps(plain, indent=2))
        return answer.code
    for address in resources:
        print(clean(f"+ {address}"))
    would = bool(resources) and not name
    print("These would be adopted." if would else answer.text.format(name))
    if answer.next and not args.quiet:
        print(f"Next: '{again(args, answer.next, name)}' {answer.why}.")
    return answer.code


def _print(args: argparse.Namespace, done: Confirmed) -> None:
    name = done.transaction
    if args.json:
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": "confirm",
            "transaction": name or None,
            "outcome": done.outcome,
        }
        print(json.dumps(plain, indent=2))
        return
    answer = ANSWERS["confirm", done.outcome]
    print(answer.text.format(name))
    if answer.next and not args.quiet:
        print(f"Next: '{again(args, answer.next)}' {answer.why}.")
