"""``remedy list``: every condition, by what it is about, those of the policy, and every fix."""

from __future__ import annotations

import argparse
import json

from remedies import catalogue, site
from remedies.cli.starting import load_policy
from remedies.cli.terminal import Style
from remedies.model import FORMAT_VERSION
from remedies.status import decidable

EXAMPLES = (
    ("list", "show every condition and fix"),
    ("list --json", "the same for a program"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments: none."""


def run(args: argparse.Namespace) -> int:
    """Print ids and titles."""
    conditions = [(name, catalogue.condition(name)) for name in catalogue.condition_ids()]
    fixes = [(name, catalogue.fix(name)) for name in catalogue.fix_ids()]
    stated = {n: r.params for n, r in load_policy(args).rules.items() if site.is_site(n)}
    if args.json:
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": "list",
            "conditions": [
                {
                    "id": name,
                    "title": c.TITLE,
                    "severity": c.SEVERITY,
                    "area": catalogue.area(name),
                    "missing": list(decidable.missing(c.NEEDS)),
                }
                for name, c in conditions
            ]
            + [
                {
                    "id": name,
                    "title": site.title(name, params),
                    "severity": params.get("severity", "medium"),
                    "area": "site",
                    "missing": [],
                }
                for name, params in stated.items()
            ],
            "fixes": [
                {"id": name, "title": f.TITLE, "risk": f.RISK, "answers": list(f.ANSWERS)}
                for name, f in fixes
            ],
        }
        print(json.dumps(plain, indent=2))
        return 0
    style = Style(args)
    for area in catalogue.AREAS:
        these = [(name, c) for name, c in conditions if catalogue.area(name) == area]
        if these:
            print(style("bold", f"Conditions: {area}"))
        for name, condition in these:
            lacks = decidable.missing(condition.NEEDS)
            note = f" (cannot be judged here: needs {' and '.join(lacks)})" if lacks else ""
            print(_entry(style, name, condition.TITLE + note))
    if stated:
        print(style("bold", "Conditions: of this site's policy"))
    for name, params in stated.items():
        print(_entry(style, name, site.title(name, params)))
    print(style("bold", "Fixes"))
    for name, fix in fixes:
        answers = f" (for {', '.join(fix.ANSWERS)})" if fix.ANSWERS else " (by 'require' only)"
        print(_entry(style, name, fix.TITLE + answers))
    if not args.quiet:
        print("\nNext: 'remedy explain ID' shows the documentation of one.")
    return 0


def _entry(style: Style, name: str, text: str) -> str:
    head = f"  {name:26} "
    return head + "\n".join(style.wrap(text, " " * len(head)))[len(head) :]
