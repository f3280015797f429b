"""``remedy verify``: check that the fixes are as we wrote them and the fault is gone."""

from __future__ import annotations

import argparse
import json

from remedies.cli import starting, status
from remedies.cli.parser import watching
from remedies.cli.render import brief, findings_text, host_line
from remedies.cli.terminal import Style
from remedies.operations import standing
from remedies.planning import planfile

EXAMPLES = (
    ("verify", "check the fixes in force and the faults they answer"),
    ("verify --window 10s", "watch ten seconds of traffic"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    watching(parser)


def run(args: argparse.Namespace) -> int:
    """Print status and scan; 2 for drift, an unfinished transaction or a fault still there."""
    here = starting.start(args, of_journal=True)
    found, scan = standing.verify(here)
    if args.json:
        ref = here.policy.ref()
        plain = {**planfile.scan_plain(scan, ref), **status.plain(here, found, "verify")}
        print(json.dumps(plain, indent=2))
    elif args.quiet:
        print(status.text(args, here, found), *brief(scan, Style(args)), sep="\n")
    else:
        style = Style(args)
        print(
            host_line(scan.host, scan.time, here.policy.ref(), style),
            status.text(args, here, found),
            findings_text(scan, style, verbose=args.verbose),
            sep="\n\n",
        )
    return 2 if found.bad or standing.faults(found, scan) else 0
