"""``remedy scan``: what is wrong here, with the evidence. Writes nothing."""

from __future__ import annotations

import argparse
from typing import Optional

from remedies.cli.parser import duration

HELP = "detect faults and show the evidence; changes nothing"
_FROM = ("exposed", "active", "proven")


def watching(parser: argparse.ArgumentParser) -> None:
    """Add the option that every verb which runs detectors has."""
    parser.add_argument(
        "--window",
        type=duration,
        default=1.0,
        metavar="TIME",
        help="how long to watch counters and packets (default: 1s; 0: one reading)",
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    watching(parser)
    parser.add_argument(
        "--fail-on",
        choices=_FROM,
        default="active",
        help="exit 2 from this verdict on (default: active)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit 2 also for what could not be judged"
    )
    parser.add_argument(
        "--show-all", action="store_true", help="list the conditions that are absent, too"
    )
    files = parser.add_mutually_exclusive_group()
    files.add_argument("--save-facts", metavar="FILE", help="save what was read, for a bug report")
    files.add_argument("--facts", metavar="FILE", help="judge saved facts instead of this host")


def run(args: argparse.Namespace) -> int:
    """Scan and print; 2 where something is found at or above --fail-on."""
    import json

    from remedies import engine, planfile, snapshot
    from remedies.cli import session
    from remedies.cli.parser import warn
    from remedies.cli.render import scan_text
    from remedies.cli.terminal import Style

    here = session.start(args)
    session.warn_unfinished(here)
    if args.facts:
        facts = snapshot.from_json(session.read_file(args.facts), args.facts)
    else:
        facts = session.look(here, for_plan=bool(args.save_facts))
    if args.save_facts:
        session.write_file(args.save_facts, snapshot.to_json(facts))
    scan, warnings = session.judge(here, facts)
    for warning in warnings:
        warn(warning)
    if args.json:
        print(json.dumps(planfile.scan_plain(scan), indent=2))
    else:
        seen = {f.condition for f in scan.findings} | {u.condition for u in scan.unknown}
        absent = [c for c in engine.watched(here.policy) if c not in seen] if args.show_all else []
        print(scan_text(scan, Style(args), verbose=args.verbose, show_all=absent))
        _next(args, [f.verdict for f in scan.findings if not f.waived])
    bad = [f for f in scan.findings if _counts(f.verdict, f.waived, args.fail_on)]
    vague = [*scan.unknown, *(f for f in scan.findings if f.verdict == "unknown")]
    return 2 if bad or (args.strict and vague) else 0


def _counts(verdict: str, waived: Optional[str], fail_on: str) -> bool:
    return not waived and verdict in _FROM and _FROM.index(verdict) >= _FROM.index(fail_on)


def _next(args: argparse.Namespace, verdicts: list[str]) -> None:
    if args.quiet or args.facts:
        return
    if any(verdict in _FROM for verdict in verdicts):
        print("\nNext: 'remedy plan' shows what would be changed.")
