"""``remedy report``: one record of scan, plan and journal, in every format asked for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn, Optional

from remedies.cli.scan import watching

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from remedies.cli.session import Session
    from remedies.report import Format
    from remedies.report.record import Actor, Chain, HostReport, Report, Tool

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
        help="html, markdown, json, jsonl, csv, junit, sarif, oscal, oscal-plan, prometheus or "
        "nagios, and where to (- is standard output); repeatable (default: markdown:-, or json:- "
        "with --json)",
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
    parser.add_argument("--head", metavar="HASH", help="a head hash kept elsewhere, to anchor to")
    parser.add_argument(
        "--fleet",
        metavar="RUN",
        help="of every host of this rollout of 'remedy fleet apply', by its name or folder, with "
        "the hosts never reached",
    )
    parser.add_argument(
        "--run-dir", metavar="DIR", help="where runs are kept (~/.local/state/remedy/runs)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the report; 0, whatever it says: 'remedy scan' is the verb that judges by exit code."""
    import time

    began = time.monotonic()
    chosen = outputs(args.output or ["json:-" if args.json else "markdown:-"])
    since = since_when(args.since)
    report = _of_fleet(args) if args.fleet else _of_host(args, since)
    write(sealed(report, began), chosen)
    return 0


def outputs(words: Iterable[str]) -> list[tuple[Format, str]]:
    """Return the formats and files that ``-o`` names. Raises UsageError; writes nothing."""
    from remedies import report as reports

    wanted = [_output(text) for text in words]
    if sum(file == "-" for _, file in wanted) > 1:
        _usage("two outputs to standard output", "name a file for one of them")
    return [(reports.load(name), file) for name, file in wanted]


def write(report: Report, chosen: Iterable[tuple[Format, str]]) -> None:
    """Write a report in every format, each file whole or not at all. Raises RemedyError."""
    import sys

    from remedies.cli import session

    for form, file in chosen:
        if file == "-":
            for piece in form.render(report):
                sys.stdout.write(piece)
        else:
            session.write_pieces(file, (piece.encode() for piece in form.render(report)))


def _output(text: str) -> tuple[str, str]:
    name, colon, file = text.partition(":")
    if not colon or not file:
        _usage(f"-o {text!r} is no FORMAT:FILE", "for example html:report.html")
    return name, file


def _usage(what: str, hint: str) -> NoReturn:
    from remedies.errors import UsageError

    raise UsageError(what, hint)


def since_when(text: Optional[str], today: Optional[float] = None) -> str:
    """Return the time from which on, as RFC 3339 UTC; empty for no limit. Raises UsageError."""
    import time

    if not text:
        return ""
    if len(text) == 10 and text[4] == text[7] == "-" and text.replace("-", "").isdigit():
        return f"{text}T00:00:00Z"
    number, unit = text[:-1], text[-1:]
    if not number.isdigit() or unit not in _UNITS or len(number) > 5:
        _usage(f"--since {text!r} is no time", "30d, 12h, 4w or YYYY-MM-DD")
    moment = (time.time() if today is None else today) - int(number) * _UNITS[unit]
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(0.0, moment)))


def tool() -> Tool:
    """Return what makes the report."""
    from remedies import __version__
    from remedies.report.record import Tool

    return Tool("remedy", __version__)


def maker() -> Actor:
    """Return who makes the report."""
    from remedies.report.record import Actor
    from remedies.transaction import actor

    return Actor(
        user=actor.user(),
        login_uid=actor.login_uid(),
        uid=actor.uid(),
        ssh_from=actor.ssh_from(),
        command=actor.command(),
    )


def sealed(report: Report, began: float) -> Report:
    """Return a report fit to leave the host, with its time; ``began`` is of time.monotonic()."""
    import time

    from remedies.facts.gather import now
    from remedies.report.redact import fit
    from remedies.values import replace

    return replace(fit(report), made=now(), seconds=round(time.monotonic() - began, 1))


def rollouts(hint: str) -> ModuleType:
    """Return what knows of rollouts; raise UsageError in the single-file tool, which has none."""
    import importlib

    name = "remedies.cli.fleet_report"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        _usage("the single-file tool knows no rollouts", hint)


def _of_fleet(args: argparse.Namespace) -> Report:
    """Return the report of a rollout."""
    report: Report = rollouts("install remedies with pip").of_run(args)
    return report


def _of_host(args: argparse.Namespace, since: str) -> Report:
    """Return the report of this host: scanned now, or from its journal alone."""
    from remedies.report.record import Report

    return Report(tool(), "", maker(), (_host(args, since),), since=since)


def _host(args: argparse.Namespace, since: str) -> HostReport:
    from remedies.cli import session
    from remedies.facts.gather import now
    from remedies.planning.advice import texts
    from remedies.report import collect
    from remedies.report.host_info import read_place
    from remedies.status import in_force

    here, chain = _start(args)
    session.warn_unfinished(here)
    place = read_place(here.host)
    states = {entry.resource: entry.state for entry in in_force.in_force(here.held)}
    if args.txn and args.txn not in here.ledger:
        _usage(f"no transaction {args.txn!r}", "see 'remedy history'")
    if args.txn or args.no_scan:
        return collect.from_journal(
            place, here.policy, here.ledger, states, now(), since=since, only=args.txn, chain=chain
        )
    plan, facts = session.make_plan(here, prune=False)
    return collect.from_scan(
        place, here.policy, facts, plan, here.ledger, states, texts(plan), since=since, chain=chain
    )


def _start(args: argparse.Namespace) -> tuple[Session, Optional[Chain]]:
    """Read host, policy and all of the journal, in one pass that checks its chain too.

    What stands after the first record that does not add up is left out, and said so.
    """
    import os

    from remedies.cli import session
    from remedies.cli.parser import warn
    from remedies.errors import NotPermitted
    from remedies.facts.host import read_host
    from remedies.report.chain import described
    from remedies.transaction import ledger as ledgers
    from remedies.transaction.audit import Audit, walk
    from remedies.transaction.journal import NAME
    from remedies.values import replace

    empty = session.Session(
        args=args, host=read_host(), policy=session.load_policy(args), ledger={}, held={}
    )
    audit = Audit()
    try:
        found = ledgers.transactions(walk(os.path.join(empty.folder, NAME), audit, args.head))
    except NotPermitted as error:
        warn(f"{error}; the report is without the journal")
        return empty, None
    for problem in audit.problems[:5]:
        rest = "it was repaired since" if problem.repaired else "what comes after is left out"
        warn(f"journal: {problem}; {rest}")
    here = replace(empty, ledger=found, held=ledgers.in_force(found))
    return here, described(audit, args.head)
