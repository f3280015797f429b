"""The audit record of this host: scanned now, or from its journal alone."""

from __future__ import annotations

import os
import time
from typing import Optional

from remedies import __version__
from remedies.errors import NotPermitted, UsageError
from remedies.facts.gather import now
from remedies.operations import plans, session
from remedies.operations.session import HostSession
from remedies.planning.advice import texts
from remedies.report import collect
from remedies.report.chain import described
from remedies.report.host_info import read_place
from remedies.report.record import Actor, Chain, HostReport, Report, Tool
from remedies.report.redact import fit
from remedies.report.trend import trend
from remedies.status import in_force
from remedies.transaction import actor
from remedies.transaction import ledger as ledgers
from remedies.transaction.audit import Audit, walk
from remedies.transaction.journal import NAME
from remedies.values import replace


def tool() -> Tool:
    """Return the name and version of this tool, for the report."""
    return Tool("remedy", __version__)


def maker() -> Actor:
    """Return the person or program that makes the report."""
    return Actor(
        user=actor.user(),
        login_uid=actor.login_uid(),
        uid=actor.uid(),
        ssh_from=actor.ssh_from(),
        command=actor.command(),
    )


def sealed(report: Report, began: float) -> Report:
    """Return a report with its times and without secrets; ``began`` is a time.monotonic()."""
    return replace(fit(report), made=now(), seconds=round(time.monotonic() - began, 1))


def compared(report: Report, earlier: Optional[Report]) -> Report:
    """Return a report with what has become better and worse since an earlier one, if there is."""
    return report if earlier is None else replace(report, trend=trend(earlier, report))


def of_host(
    here: HostSession, *, since: str, only: Optional[str], scan: bool, head: Optional[str]
) -> Report:
    """Return the report of this host: scanned now, or from its journal alone.

    ``only`` is the one transaction to report; None: all since ``since``. ``head`` is the hash that
    the journal has to end with. Raises UsageError where there is no such transaction.
    """
    return Report(tool(), "", maker(), (_host(here, since, only, scan, head),), since=since)


def _host(
    here: HostSession, since: str, only: Optional[str], scan: bool, head: Optional[str]
) -> HostReport:
    here, chain = _with_journal(here, head)
    for line in session.unfinished_lines(here):
        here.notify(line)
    place = read_place(here.host)
    states = {entry.resource: entry.state for entry in in_force.compare(here.held)}
    if only and only not in here.ledger:
        raise UsageError(f"no transaction {only!r}", "see 'remedy history'")
    if only or not scan:
        return collect.from_journal(
            place, here.policy, here.ledger, states, now(), since=since, only=only, chain=chain
        )
    plan, facts = plans.make(here, prune=False)
    return collect.from_scan(
        place, here.policy, facts, plan, here.ledger, states, texts(plan), since=since, chain=chain
    )


def _with_journal(here: HostSession, head: Optional[str]) -> tuple[HostSession, Optional[Chain]]:
    """Read all of the journal, in one pass that checks its chain too.

    Records after the first one whose hash is wrong are left out, with a warning.
    """
    audit = Audit()
    try:
        found = ledgers.transactions(walk(os.path.join(here.folder, NAME), audit, head))
    except NotPermitted as error:
        here.notify(f"{error}; the report is without the journal")
        return here, None
    for problem in audit.problems[:5]:
        rest = "it was repaired since" if problem.repaired else "what comes after is left out"
        here.notify(f"journal: {problem}; {rest}")
    return session.with_ledger(here, found), described(audit, head)
