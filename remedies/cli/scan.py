"""``remedy scan``: what is wrong here, with the evidence. Writes nothing."""

from __future__ import annotations

import argparse
import json
import os
from typing import Optional

from remedies.cli import files, namespaces_text, starting
from remedies.cli.everywhere import everywhere_from
from remedies.cli.next_command import again
from remedies.cli.parser import warn, watching
from remedies.cli.render import brief, scan_text
from remedies.cli.terminal import Style
from remedies.facts import saved
from remedies.model import UNCOVERED, Scan, Verdict
from remedies.operations import scan_all, session
from remedies.planning import engine, planfile

EXAMPLES = (
    ("scan", "detect the faults of this host"),
    ("scan --all-netns --window 10s", "also containers, with ten seconds of traffic"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    watching(parser)
    parser.add_argument(
        "--fail-on",
        choices=UNCOVERED,
        default="active",
        help="exit 2 from this verdict on (default: active)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit 2 also for what could not be judged, or not read in full",
    )
    parser.add_argument(
        "--show-all", action="store_true", help="list the conditions that are absent, too"
    )
    files = parser.add_mutually_exclusive_group()
    files.add_argument("--save-facts", metavar="FILE", help="save what was read, for a bug report")
    files.add_argument("--facts", metavar="FILE", help="judge saved facts instead of this host")
    files.add_argument(
        "--all-netns",
        action="store_true",
        help="also every other network namespace: containers, and those with a name",
    )


def run(args: argparse.Namespace) -> int:
    """Scan and print; 2 where something is found at or above --fail-on."""
    if args.all_netns:
        return _everywhere(args)
    here = starting.start(args)
    starting.warn_unfinished(here)
    if args.facts:
        facts = saved.from_json(files.read_file(args.facts), args.facts)
    else:
        facts = session.look(here, for_plan=bool(args.save_facts))
    if args.save_facts:
        files.write_file(args.save_facts, saved.to_json(facts))
    scan, warnings = session.judge(here, facts)
    for warning in warnings:
        warn(warning)
    if args.json:
        print(json.dumps(planfile.scan_plain(scan, here.policy.ref()), indent=2))
    elif args.quiet:
        for line in brief(scan, Style(args)):
            print(line)
    else:
        seen = {f.condition for f in scan.findings} | {u.condition for u in scan.unknown}
        absent = [c for c in engine.watched(here.policy) if c not in seen] if args.show_all else []
        print(
            scan_text(scan, here.policy.ref(), Style(args), verbose=args.verbose, show_all=absent)
        )
        _next(args, [scan])
    return _code(args, scan)


def _everywhere(args: argparse.Namespace) -> int:
    """Scan every namespace and print; the exit code is the worst of them."""
    everywhere_from(args)
    here = starting.start(args)
    policy = here.policy.ref()
    places = scan_all.scan_all(here)
    for place in places:
        for line in place.said:
            warn(line if place.namespace.own else f"{namespaces_text.title(place)}: {line}")
    if args.json:
        print(json.dumps(namespaces_text.plain(places, policy), indent=2))
    elif args.quiet:
        for line in namespaces_text.brief_lines(places, Style(args)):
            print(line)
    else:
        print(namespaces_text.text(places, policy, Style(args), verbose=args.verbose))
        _next(args, [place.scan for place in places])
    return max(_code(args, place.scan) for place in places)


def _code(args: argparse.Namespace, scan: Scan) -> int:
    bad = [f for f in scan.findings if _counts(f.verdict, f.waived, args.fail_on)]
    vague = [*scan.unknown, *(f for f in scan.findings if f.verdict == "unknown")]
    return 2 if bad or (args.strict and vague) else 0


def _counts(verdict: Verdict, waived: Optional[str], fail_on: Verdict) -> bool:
    return not waived and verdict in UNCOVERED[UNCOVERED.index(fail_on) :]


def _next(args: argparse.Namespace, scans: list[Scan]) -> None:
    if args.quiet or args.facts:
        return
    verdicts = {f.verdict for scan in scans for f in scan.findings if not f.waived}
    unread = {u.condition for scan in scans for u in scan.unknown if not u.partly}
    if unread and os.geteuid() != 0:
        everywhere = ["--all-netns"] if args.all_netns else []
        found = again(args, "scan", *everywhere)
        print(f"\nNext: 'sudo {found}' can judge the {len(unread)} conditions that need root.")
    elif verdicts & {*UNCOVERED}:
        print(f"\nNext: '{again(args, 'plan')}' shows what would be changed.")
    elif "mitigated" in verdicts:
        print(f"\nNext: '{again(args, 'status')}' shows what is in force.")
    elif not args.all_netns:
        print(f"\nNext: '{again(args, 'scan', '--all-netns')}' looks into containers, too.")
