"""``remedy show``: one transaction, whole."""

from __future__ import annotations

import argparse
import json

from remedies import codec
from remedies.cli.render import changes_text
from remedies.cli.terminal import Style, clean
from remedies.errors import UsageError
from remedies.facts.host import read_host
from remedies.model import FORMAT_VERSION
from remedies.operations import session
from remedies.printable import local
from remedies.transaction import state

EXAMPLES = (("show 20261128T202421Z-1a2b3c4d", "show one transaction of 'remedy history'"),)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("transaction", metavar="TXN", help="see 'remedy history'")


def run(args: argparse.Namespace) -> int:
    """Print a transaction; 64 where there is none."""
    folder = state.folder(args.state_dir, read_host().netns)
    entry = next(session.newest(folder, args.transaction), None)
    if not args.transaction or entry is None:
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
    print(clean(f"{local(entry.time)} on {begin.host}, by {begin.user}: {begin.command}\n"))
    print("\n".join(changes_text(begin.changes, Style(args))).rstrip())
    for line in entry.stuck:
        print(f"stuck: {clean(line)}")
    return 0
