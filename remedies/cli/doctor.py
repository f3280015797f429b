"""``remedy doctor``: what this kernel, these libraries and these privileges allow."""

from __future__ import annotations

import argparse
import json

from remedies.cli.terminal import Style, clean
from remedies.model import FORMAT_VERSION
from remedies.status import doctor

EXAMPLES = (("doctor", "show what works here and what is missing"),)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments: none."""


def run(args: argparse.Namespace) -> int:
    """Print one line a check; 0 when detection and writing are both possible, else 1."""
    checks = doctor.checks(args.state_dir)
    if args.json:
        plain = [
            {"name": c.name, "state": c.state, "detail": c.detail, "hint": c.hint} for c in checks
        ]
        head = {"format_version": FORMAT_VERSION, "kind": "doctor"}
        print(json.dumps({**head, "checks": plain}, indent=2))
    else:
        style = Style(args)
        colours = {"yes": "green", "no": "red", "optional": "yellow"}
        for check in checks:
            hint = f"; {check.hint}" if check.hint and check.state != "yes" else ""
            state = style(colours[check.state], f"{check.state:8}")
            print(clean(f"{check.name:26} ") + state + clean(f" {check.detail}{hint}"))
        if not args.quiet:
            print("\nNext: 'remedy scan' looks for faults.")
    return 1 if any(check.state == "no" for check in checks) else 0
