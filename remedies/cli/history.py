"""``remedy history``: the journal, for people."""

from __future__ import annotations

import argparse

NEWEST = 20
"""Transactions that are told unless more are asked for: two lines each, a screen in all."""


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
    import itertools
    import json

    from remedies.cli import session
    from remedies.cli.terminal import Style, clean, local
    from remedies.facts.host import read_host
    from remedies.model import FORMAT_VERSION
    from remedies.transaction import state

    folder = state.folder(args.state_dir, read_host().netns)
    most = args.limit if args.limit > 0 else None
    told = session.newest(folder)
    found = list(itertools.islice(told, most))
    older = next(told, None) is not None
    rows = [
        {
            "transaction": t.id,
            "time": t.time,
            "kind": t.begin.kind,
            "outcome": t.outcome or "unfinished",
            "fixes": sorted({c.fix for c in t.begin.changes}),
            "undoes": list(t.begin.undoes),
            "user": t.begin.user,
            "command": t.begin.command,
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
    for row in rows:
        what = ", ".join(map(str, row["fixes"]))
        undoes = f" of {', '.join(map(str, row['undoes']))}" if row["undoes"] else ""
        print(clean(f"{row['transaction']}  {row['kind']:8} {row['outcome']:11} {what}{undoes}"))
        print(
            style("dim", clean(f"    {local(str(row['time']))}  {row['user']}: {row['command']}"))
        )
    if not rows:
        print("The journal is empty.")
    elif older and not args.quiet:
        print("\nThere are older ones: 'remedy history --limit 0' tells all.")
    return 0
