"""``remedy history``: the journal, for people."""

from __future__ import annotations

import argparse
import itertools
import json
from typing import TYPE_CHECKING, Optional

from remedies.cli.terminal import Style, clean
from remedies.facts.host import read_host
from remedies.local_time import local
from remedies.model import FORMAT_VERSION
from remedies.operations import session
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
    if args.json:
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": "history",
            "transactions": [_row(entry, by.get(entry.id)) for entry in found],
            "older": older,
        }
        print(json.dumps(plain, indent=2))
        return 0
    style = Style(args)
    for entry in found:
        taken = _removed(entry)
        fixes = sorted({change.fix for change in entry.begin.changes})
        what = ", ".join(f"removed {fix}" if fix in taken else fix for fix in fixes)
        what += f", rolled back by {by[entry.id]}" if entry.id in by else ""
        what += f" of {', '.join(entry.begin.undoes)}" if entry.begin.undoes else ""
        print(clean(f"{entry.id}  {entry.begin.kind:8} {entry.told:11} {what}"))
        if args.quiet:
            continue
        who = f"{entry.begin.user}: {entry.begin.command}"
        print(style("dim", clean(f"    {local(entry.time)}  {who}")))
        if said := said_of(entry.begin):
            print(style("dim", clean(f"    {said}")))
    if not found:
        print("The journal is empty.")
    elif older and not args.quiet:
        print("\nThere are older transactions: 'remedy history --limit 0' shows all.")
    return 0


def _row(entry: Transaction, by: Optional[str]) -> dict[str, object]:
    """Return what JSON says of a transaction that was rolled back by another one, or by none."""
    begin = entry.begin
    return {
        "transaction": entry.id,
        "time": entry.time,
        "kind": begin.kind,
        "outcome": entry.told,
        "fixes": sorted({change.fix for change in begin.changes}),
        "removed": sorted(_removed(entry)),
        "undoes": list(begin.undoes),
        "rolled_back_by": by,
        "user": begin.user,
        "command": begin.command,
        "change_id": begin.change_id,
        "approver": begin.approver,
        "comment": begin.comment,
    }


def said_of(begin: Begin) -> str:
    """Return what its writer said of it: the change, who approved it, the comment."""
    said = (("change ", begin.change_id), ("approved by ", begin.approver), ("", begin.comment))
    return ", ".join(f"{word}{text}" for word, text in said if text)


def _removed(entry: Transaction) -> frozenset[str]:
    """Return the fixes that an apply removed."""
    if entry.begin.kind != "apply":
        return frozenset()
    return frozenset(change.fix for change in entry.begin.changes if change.action == "remove")
