"""``remedy show``: one transaction, or a saved plan, whole."""

from __future__ import annotations

import argparse
import json
import os

from remedies import codec
from remedies.cli import files
from remedies.cli.history import said_of
from remedies.cli.render import BY_ROLLBACK, OF_ROLLBACK, changes_text, plan_text
from remedies.cli.terminal import Style, clean
from remedies.errors import UsageError
from remedies.facts.host import read_host
from remedies.local_time import local
from remedies.model import FORMAT_VERSION
from remedies.operations import naming, session
from remedies.planning import savedplan
from remedies.transaction import state

EXAMPLES = (
    ("show last", "show the newest transaction"),
    ("show 20261128T2024", "show one of 'remedy history', by the beginning of its id"),
    ("show ./plan.json", "show a plan that 'remedy plan -o plan.json' saved"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument(
        "transaction",
        metavar="TXN|PLAN",
        help="the id of a transaction, the beginning of one, or 'last' (see 'remedy history'); or "
        "the file of a saved plan",
    )


def run(args: argparse.Namespace) -> int:
    """Print a transaction, 64 where there is none; or a plan, 65 where the file is none."""
    if os.path.sep in args.transaction or os.path.isfile(args.transaction):
        return _plan(args, args.transaction)
    folder = state.folder(args.state_dir, read_host().netns)
    wanted = naming.transaction_id(folder, args.transaction)
    entry = next(session.newest(folder, wanted), None) if wanted else None
    if entry is None:
        raise UsageError(f"no transaction {args.transaction!r}", "see 'remedy history'")
    outcome = entry.told
    if args.json:
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": "transaction",
            "transaction": entry.id,
            "time": entry.time,
            "outcome": outcome,
            "begin": codec.encode(entry.begin),
            "written": entry.written,
            "undone": entry.undone,
            "stuck": list(entry.stuck),
        }
        print(json.dumps(plain, indent=2))
        return 0
    begin = entry.begin
    print(f"{entry.id}: {begin.kind}, {outcome}")
    print(clean(f"{local(entry.time)} on {begin.host}, by {begin.user}: {begin.command}"))
    if said := said_of(begin.change_id, begin.approver, begin.comment):
        print(clean(said))
    print()
    undone = OF_ROLLBACK if begin.kind == "rollback" else BY_ROLLBACK
    print("\n".join(changes_text(begin.changes, Style(args), undone)).rstrip())
    for line in entry.stuck:
        print(f"stuck: {clean(line)}")
    return 0


def _plan(args: argparse.Namespace, path: str) -> int:
    """Print a saved plan of any host as 'remedy plan' printed it."""
    text = files.read_file(path)
    plan = savedplan.read(text, path)
    if args.json:
        print(json.dumps(codec.loads(text, path), indent=2))
        return 0
    print(plan_text(plan, Style(args), verbose=args.verbose))
    print(f"\nMade at {local(plan.scan.time)}, plan {clean(plan.id)}.")
    return 0
