"""``remedy history``: the journal, for people."""

from __future__ import annotations

import argparse
import itertools
import json
from typing import TYPE_CHECKING

from remedies.cli.terminal import Style, clean
from remedies.facts.host import read_host
from remedies.model import FORMAT_VERSION
from remedies.operations import session
from remedies.printable import local
from remedies.transaction import state

if TYPE_CHECKING:
    from remedies.transaction.ledger import Begin, Transaction

EXAMPLES = (
    ("history", "list the newest transactions"),
    ("history --limit 0 --json", "list all of them, for a program"),
)

NEWEST = 20
"""Transactions that are shown by default: at two lines each they fill a screen."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument(
        "--limit",
        type=int,
        default=NEWEST,
        metavar="N",
        help=f"how many, newest first (default {NEWEST}; 0: all)",
    )


def run(args: argparse.Namespace) -> int:
    """Print the newest transactions, newest first."""
    folder = state.folder(args.state_dir, read_host().netns)
    most = args.limit if args.limit > 0 else None
    told = session.newest(folder)
    found = list(itertools.islice(told, most))
    older = next(told, None) is not None
    by = {undone: t.id for t in found if t.begin.kind == "rollback" for undone in t.begin.undoes}
    rows = [
        {
            "transaction": t.id,
            "time": t.time,
            "kind": t.begin.kind,
            "outcome": t.told,
            "fixes": sorted({c.fix for c in t.begin.changes}),
            "removed": sorted(_removed(t)),
            "undoes": list(t.begin.undoes),
            "rolled_back_by": by.get(t.id),
            "user": t.begin.user,
            "command": t.begin.command,
            "change_id": t.begin.change_id,
            "approver": t.begin.approver,
            "comment": t.begin.comment,
        }
        for t in found
    ]
    if args.json:
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": "history",
            "transactions": rows,
            "older": older,
        }
        print(json.dumps(plain, indent=2))
        return 0
    style = Style(args)
    for entry, row in zip(found, rows):
        taken = _removed(entry)
        fixes = sorted({change.fix for change in entry.begin.changes})
        what = ", ".join(f"removed {fix}" if fix in taken else fix for fix in fixes)
        what += f", rolled back by {by[entry.id]}" if entry.id in by else ""
        what += f" of {', '.join(entry.begin.undoes)}" if entry.begin.undoes else ""
        print(clean(f"{entry.id}  {entry.begin.kind:8} {row['outcome']:11} {what}"))
        if args.quiet:
            continue
        who = f"{entry.begin.user}: {entry.begin.command}"
        print(style("dim", clean(f"    {local(entry.time)}  {who}")))
        if said := said_of(entry.begin):
            print(style("dim", clean(f"    {said}")))
    if not rows:
        print("The journal is empty.")
    elif older and not args.quiet:
        print("\nThere are older transactions: 'remedy history --limit 0' shows all.")
    return 0


def said_of(begin: Begin) -> str:
    """Return what its writer said of it: the change, who approved it, the comment."""
    said = (("change ", begin.change_id), ("approved by ", begin.approver), ("", begin.comment))
    return ", ".join(f"{word}{text}" for word, text in said if text)


def _removed(entry: Transaction) -> frozenset[str]:
    """Return the fixes that an apply removed."""
    if entry.begin.kind != "apply":
        return frozenset()
    return frozenset(change.fix for change in entry.begin.changes if change.action == "remove")
