"""``remedy explain``: what a condition or a fix is, from its own documentation."""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("id", metavar="ID", help="see 'remedy list'")


def run(args: argparse.Namespace) -> int:
    """Print the documentation of a condition or fix; 64 for an id that does not exist."""
    import difflib
    import inspect
    import json

    from remedies import catalogue
    from remedies.cli.terminal import Style
    from remedies.errors import UsageError

    known = {**dict.fromkeys(catalogue.condition_ids(), "condition"),
             **dict.fromkeys(catalogue.fix_ids(), "fix")}  # fmt: skip
    if args.id not in known:
        near = difflib.get_close_matches(args.id, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "see 'remedy list'"
        raise UsageError(f"nothing is called {args.id!r}", hint)
    kind = known[args.id]
    module = catalogue.condition(args.id) if kind == "condition" else catalogue.fix(args.id)
    text = inspect.cleandoc(module.__doc__ or "")
    if args.json:
        print(
            json.dumps({"id": args.id, "kind": kind, "title": module.TITLE, "text": text}, indent=2)
        )
        return 0
    style = Style(args)
    print(style("bold", f"{args.id} ({kind})"))
    for line in text.splitlines():
        print(style("bold", line) if line and not line.startswith(" ") else line)
    return 0
