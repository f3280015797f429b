"""``remedy report``: one record of scan, plan and journal, in every format asked for."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Iterable
from types import ModuleType
from typing import NoReturn, Optional

from remedies import report as reports
from remedies.cli import files, starting
from remedies.cli.parser import watching
from remedies.errors import UsageError
from remedies.operations import report as operation
from remedies.report import Format
from remedies.report import trend as trends
from remedies.report.record import Report

EXAMPLES = (
    ("report -o markdown:report.md -o sarif:report.sarif", "write two formats of one report"),
    ("report --since 30d -o markdown:-", "only the last 30 days, on standard output"),
    ("report --against last-week.json -o html:page.html", "also what has changed since"),
)

_DAY = 86_400.0
_UNITS = {"m": 60.0, "h": 3600.0, "d": _DAY, "w": 7 * _DAY}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    watching(parser)
    parser.add_argument(
        "-o",
        "--output",
        action="append",
        metavar="FORMAT:FILE",
        help=f"one of {', '.join(reports.formats())}, and where to (- is standard output); "
        "repeatable (default: markdown:-, or json:- with --json)",
    )
    parser.add_argument(
        "--since", metavar="WHEN", help="only transactions this recent: 30d, 12h, 4w or YYYY-MM-DD"
    )
    parser.add_argument(
        "--txn", metavar="TXN", help="only this transaction, from the journal alone"
    )
    parser.add_argument(
        "--no-scan", action="store_true", help="from the journal alone, without a fresh scan"
    )
    parser.add_argument(
        "--head", metavar="HASH", help="a head hash kept elsewhere, to verify the journal against"
    )
    parser.add_argument(
        "--fleet",
        metavar="RUN",
        help="report on all hosts of a rollout (run id or folder), unreachable ones included",
    )
    parser.add_argument(
        "--against",
        metavar="FILE",
        help="an earlier report (-o json:FILE): also what has become better and worse since",
    )
    parser.add_argument(
        "--run-dir", metavar="DIR", help="where runs are kept (~/.local/state/remedy/runs)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the report; 0, whatever it says: 'remedy scan' is the verb that judges by exit code."""
    began = time.monotonic()
    chosen = outputs(args.output or ["json:-" if args.json else "markdown:-"])
    since = since_when(args.since)
    before = earlier(args)
    if args.fleet:
        report = _of_fleet(args)
    else:
        report = operation.of_host(
            starting.fresh(args),
            since=since,
            only=args.txn,
            scan=not args.no_scan,
            head=args.head,
        )
    write(operation.sealed(operation.compared(report, before), began), chosen)
    return 0


def earlier(args: argparse.Namespace) -> Optional[Report]:
    """Return the report that ``--against`` names, None without it. Raises InputError."""
    return trends.read(files.read_file(args.against), args.against) if args.against else None


def outputs(words: Iterable[str]) -> list[tuple[Format, str]]:
    """Return the formats and files that ``-o`` names. Raises UsageError; writes nothing."""
    wanted = [files.format_and_file(text, "for example html:report.html") for text in words]
    if sum(file == "-" for _, file in wanted) > 1:
        _usage("two outputs to standard output", "name a file for one of them")
    return [(reports.load(name), file) for name, file in wanted]


def write(report: Report, chosen: Iterable[tuple[Format, str]]) -> None:
    """Write a report in every format, each file whole or not at all. Raises RemedyError."""
    for form, file in chosen:
        if file == "-":
            for piece in form.render(report):
                sys.stdout.write(piece)
        else:
            files.write_pieces(file, (piece.encode() for piece in form.render(report)))


def _usage(what: str, hint: str) -> NoReturn:
    raise UsageError(what, hint)


def since_when(text: Optional[str], today: Optional[float] = None) -> str:
    """Return the time from which on, as RFC 3339 UTC; empty for no limit. Raises UsageError."""
    if not text:
        return ""
    if len(text) == 10 and text[4] == text[7] == "-" and text.replace("-", "").isdigit():
        return f"{text}T00:00:00Z"
    number, unit = text[:-1], text[-1:]
    if not number.isdigit() or unit not in _UNITS or len(number) > 5:
        _usage(f"--since {text!r} is not a time", "30d, 12h, 4w or YYYY-MM-DD")
    moment = (time.time() if today is None else today) - int(number) * _UNITS[unit]
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(0.0, moment)))


def rollouts(hint: str) -> ModuleType:
    """Return the module for rollouts; raise UsageError in the single-file tool, which has none."""
    name = "remedies.cli.fleet_report"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        _usage("the single-file tool has no rollouts", hint)


def _of_fleet(args: argparse.Namespace) -> Report:
    """Return the report of a rollout."""
    report: Report = rollouts("install remedies with pip").of_run(args)
    return report
