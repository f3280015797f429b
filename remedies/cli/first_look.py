"""``remedy`` alone, on a terminal: this host in five lines, and the command to go on with."""

from __future__ import annotations

import argparse
import os

from remedies.cli import parser, starting
from remedies.cli.next_command import again
from remedies.cli.render import host_line
from remedies.cli.terminal import VERDICT_COLOURS, Style, clean
from remedies.model import UNCOVERED, Scan
from remedies.operations import first_look
from remedies.operations.first_look import FirstLook
from remedies.planning import engine
from remedies.values import replace

WINDOW = 1.0
"""Seconds for which counters and packets are watched, as ``remedy scan`` does by default."""
_UNDER = " " * 10  # under what stands behind a label


def run(args: argparse.Namespace) -> int:
    """Look and print; exit 0 whatever is found: ``remedy scan`` is for scripts."""
    here = replace(starting.fresh(args), window=WINDOW)
    found = first_look.first_look(here)
    style = Style(args)
    print(host_line(here.host, found.scan.time, here.policy.ref(), style))
    for label, line in lines(found, style):
        first, *more = style.wrap(line, _UNDER)
        print("\n".join([label + first[len(label) :], *more]))
    print(f"\nNext: {following(args, found, as_root=os.geteuid() == 0)}")
    print("'remedy --help' lists the verbs.")
    return 0


def lines(found: FirstLook, style: Style) -> list[tuple[str, str]]:
    """Return each line with its label."""
    return [
        ("faults", _faults(found.scan, style)),
        ("unknown", _unjudged(found)),
        ("fixes", _fixes(found)),
        ("others", _others(found)),
    ]


def _faults(scan: Scan, style: Style) -> str:
    """Return the conditions of each verdict; waived findings are left out."""
    told = []
    for verdict, colour in VERDICT_COLOURS.items():
        names = {f.condition for f in scan.findings if f.verdict == verdict and not f.waived}
        if names:
            told.append(f"{style(colour, verdict)}: {clean(', '.join(sorted(names)))}")
    return "; ".join(told) or f"none seen in {WINDOW:g} s"


def _unjudged(found: FirstLook) -> str:
    vague = engine.unjudged(found.scan)
    if not vague:
        return f"nothing: all {found.watched} conditions were judged"
    return f"{len(vague)} of {found.watched} conditions could not be judged"


def _fixes(found: FirstLook) -> str:
    if found.standing is None:
        return "not known: only root may read the journal"
    entries, pending = found.standing.entries, "pending" in found.standing.unfinished.values()
    names = clean(", ".join(sorted({entry.fix for entry in entries})))
    told = f"in force: {names}" if names else "none in force"
    if found.standing.bad:
        return f"{told}; needs attention"
    return f"{told}; waits for 'remedy confirm'" if pending else told


def _others(found: FirstLook) -> str:
    parts = [
        _count(found.containers, "container"),
        _count(found.namespaces, "other network namespace"),
    ]
    seen = " and ".join(filter(None, parts))
    told = f"{seen}, not looked into" if seen else "no other network namespace"
    return f"{told}; some may not be seen" if found.hidden else told


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}" if number else ""


def following(args: argparse.Namespace, found: FirstLook, *, as_root: bool) -> str:
    """Return which command to go on with, the most urgent one, and what it does."""
    standing = found.standing
    if standing and "pending" in standing.unfinished.values():
        keep, undo = again(args, "confirm"), again(args, "rollback")
        return f"'{keep}' keeps the change that waits, '{undo}' undoes it."
    if standing and standing.bad:
        return f"'{again(args, 'status')}' shows what needs attention."
    if any(f.verdict in UNCOVERED and not f.waived for f in found.scan.findings):
        scan, plan = again(args, "scan"), again(args, "plan")
        return f"'{scan}' shows the evidence, '{plan}' what would be changed."
    if not as_root and (found.hidden or found.scan.unknown):
        return f"'sudo {again(args)}' sees the rest."
    if (found.containers or found.namespaces) and "netns" not in args.typed:
        return f"'{again(args, 'scan', '--all-netns')}' looks into the others, too."
    if standing and standing.entries:
        return f"'{again(args, 'status')}' shows what is in force."
    if parser.has("lab"):
        return (
            "'remedy lab run tcp-invalid-reset' shows a fault, its proof and its fix in throw-away "
            "namespaces."
        )
    return f"'{again(args, 'watch')}' reports faults as they appear."
