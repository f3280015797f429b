"""``remedy history``: the journal, for people."""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument(
        "--limit", type=int, default=0, metavar="N", help="only the newest N (default: all)"
    )


def run(args: argparse.Namespace) -> int:
    """Print every transaction, newest first."""
    import json

    from remedies.cli import session
    from remedies.cli.terminal import Style, clean
    from remedies.facts.host import read_host
    from remedies.model import FORMAT_VERSION
    from remedies.transaction import state

    folder = state.folder(args.state_dir, read_host().netns)
    found = list(reversed(session.read_ledger(folder).values()))
    if args.limit > 0:
        found = found[: args.limit]
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
        plain = {"format_version": FORMAT_VERSION, "kind": "history", "transactions": rows}
        print(json.dumps(plain, indent=2))
        return 0
    style = Style(args)
    for row in rows:
        what = ", ".join(map(str, row["fixes"]))
        undoes = f" of {', '.join(map(str, row['undoes']))}" if row["undoes"] else ""
        print(clean(f"{row['transaction']}  {row['kind']:8} {row['outcome']:11} {what}{undoes}"))
        print(style("dim", clean(f"    {row['time']}  {row['user']}: {row['command']}")))
    if not rows:
        print("The journal is empty.")
    return 0
