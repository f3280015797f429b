"""``remedy history``: the journal, for people."""

from __future__ import annotations

import argparse
import itertools
import json
from typing import TYPE_CHECKING, Any

from remedies.cli.terminal import Style, clean
from remedies.facts.host import read_host
from remedies.local_time import local
from remedies.model import FORMAT_VERSION
from remedies.operations import session
from remedies.transaction import state

if TYPE_CHECKING:
    from remedies.transaction.ledger import Transaction

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
    # Of a long journal only what is shown stays in memory.
    found = [_row(entry) for entry in itertools.islice(told, most)]
    older = next(told, None) is not None
    rollbacks = (row for row in found if row["kind"] == "rollback")
    by = {undone: row["transaction"] for row in rollbacks for undone in row["undoes"]}
    for row in found:
        row["rolled_back_by"] = by.get(row["transaction"])
    if args.json:
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": "history",
            "transactions": found,
            "older": older,
        }
        print(json.dumps(plain, indent=2))
        return 0
    style = Style(args)
    for row in found:
        print(clean(_what(row)))
        if args.quiet:
            continue
        print(style("dim", clean(f"    {local(row['time'])}  {row['user']}: {row['command']}")))
        if said := said_of(row["change_id"], row["approver"], row["comment"]):
            print(style("dim", clean(f"    {said}")))
    if not found:
        print("The journal is empty.")
    elif older and not args.quiet:
        print("\nThere are older transactions: 'remedy history --limit 0' shows all.")
    return 0


def _row(entry: Transaction) -> dict[str, Any]:
    """Return what JSON says of a transaction, but for what was done about it later."""
    begin = entry.begin
    return {
        "transaction": entry.id,
        "time": entry.time,
        "kind": begin.kind,
        "outcome": entry.told,
        "fixes": sorted({change.fix for change in begin.changes}),
        "removed": sorted(_removed(entry)),
        "undoes": list(begin.undoes),
        "rolled_back_by": None,
        "user": begin.user,
        "command": begin.command,
        "change_id": begin.change_id,
        "approver": begin.approver,
        "comment": begin.comment,
    }


def _what(row: dict[str, Any]) -> str:
    taken = row["removed"]
    what = ", ".join(f"removed {fix}" if fix in taken else fix for fix in row["fixes"])
    what += f", rolled back by {row['rolled_back_by']}" if row["rolled_back_by"] else ""
    what += f" of {', '.join(row['undoes'])}" if row["undoes"] else ""
    return f"{row['transaction']}  {row['kind']:8} {row['outcome']:11} {what}"


def said_of(change_id: str, approver: str, comment: str) -> str:
    """Return what its writer said of a transaction: the change, who approved it, the comment."""
    said = (("change ", change_id), ("approved by ", approver), ("", comment))
    return ", ".join(f"{word}{text}" for word, text in said if text)


def _removed(entry: Transaction) -> frozenset[str]:
    """Return the fixes that an apply removed."""
    if entry.begin.kind != "apply":
        return frozenset()
    return frozenset(change.fix for change in entry.begin.changes if change.action == "remove")
