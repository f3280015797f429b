"""From the journal to the record: transactions, and the figures before and after them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Optional

from remedies.model import Change, Finding
from remedies.outcomes import KEPT, ChangeState
from remedies.report.history import IN_FORCE, Standings
from remedies.report.record import Actor, Changed, Checked, Deed, Moment, Reading, Series
from remedies.transaction.ledger import Begin, Transaction

_FIGURE = re.compile(r"\+?\d+(?:\.\d+)?")
_WINDOW = re.compile(r"\bin (\d+(?:\.\d+)?) s\b")


def deeds(
    ledger: Mapping[str, Transaction],
    standings: Standings,
    *,
    since: str = "",
    only: Optional[str] = None,
) -> tuple[Deed, ...]:
    """Return the transactions that began at ``since`` or later (or ``only`` one), oldest first.

    ``standings`` are of the whole ledger.
    """
    return tuple(
        _deed(entry, standings)
        for entry in ledger.values()
        if entry.time >= since and (only is None or entry.id == only)
    )


def _deed(entry: Transaction, standings: Standings) -> Deed:
    begin = entry.begin
    ended = entry.ended
    return Deed(
        id=entry.id,
        kind=begin.kind,
        time=entry.time,
        ended=ended,
        seconds=_between(entry.time, ended) if ended else None,
        outcome=entry.told,
        confirmation=_confirmation(entry),
        reason=entry.reason,
        actor=_actor(begin),
        tool=begin.tool,
        plan_id=begin.plan_id,
        policy=begin.policy,
        policy_digest=begin.policy_digest,
        boot_id=begin.boot_id,
        undoes=begin.undoes,
        changes=tuple(
            changed(change, _state(entry, index, standings), entry.id)
            for index, change in enumerate(begin.changes)
        ),
        stuck=entry.stuck,
        checked=tuple(
            Checked(
                finding=item.get("finding", ""),
                condition=item.get("condition", ""),
                before=item.get("before", ""),
                after=item.get("after", ""),
            )
            for item in entry.verified.verified
        ),
    )


def _confirmation(entry: Transaction) -> str:
    """Return what became of the confirmation that a transaction asked for."""
    if entry.pending is None:
        return ""
    if entry.outcome is None:
        return f"pending until {entry.pending.until}"
    if entry.outcome not in KEPT:
        return entry.outcome
    return f"confirmed by {entry.confirmed_by}" if entry.confirmed_by else "confirmed"


def _actor(begin: Begin) -> Actor:
    return Actor(
        user=begin.user,
        login_uid=begin.login_uid,
        uid=begin.uid,
        ssh_from=begin.ssh_from,
        change_id=begin.change_id,
        comment=begin.comment,
        approver=begin.approver,
        command=begin.command,
    )


def _state(entry: Transaction, index: int, standings: Standings) -> ChangeState:
    if index in entry.undone:
        return "undone"
    if index not in entry.written:
        return "not written"
    return (
        "written"
        if entry.begin.kind == "rollback"
        else standings.of(entry, entry.begin.changes[index])
    )


def changed(change: Change, state: ChangeState, transaction: str = "") -> Changed:
    """Return a change as the record has it."""
    undo = f"remedy rollback {transaction}" if transaction and state == IN_FORCE else ""
    return Changed(
        resource=change.resource,
        fix=change.fix,
        finding=change.finding,
        action=change.action,
        before=change.before,
        after=change.after,
        diff=change.diff,
        reversibility=change.reversibility,
        risk=change.risk,
        impact=change.impact,
        boot=change.boot,
        state=state,
        undo=undo,
    )


def _between(begin: str, end: str) -> Optional[float]:
    """Return the seconds between two RFC 3339 times, or None where one is none."""
    try:
        return (_moment(end) - _moment(begin)).total_seconds()
    except ValueError:
        return None


def _moment(time: str) -> datetime:
    """Read an RFC 3339 time in UTC; Python 3.9 does not know its ``Z``."""
    return datetime.fromisoformat(time.replace("Z", "+00:00"))


def series(
    ledger: Mapping[str, Transaction], now: Iterable[Finding], time: str, *, since: str = ""
) -> tuple[Series, ...]:
    """Return the figures of each answered finding before, after, and at the time of the report.

    Only what moved within a window is a figure: a counter's total says nothing by itself.
    """
    today = {finding.id: _figures(finding) for finding in now}
    found = []
    for entry in ledger.values():
        if entry.time < since:
            continue
        after = {finding.id: _figures(finding) for finding in entry.verified.findings}
        for finding in entry.begin.findings:
            for key, (unit, value) in _figures(finding).items():
                readings = [Reading(entry.time, "before", value)]
                later: tuple[tuple[Moment, str, dict[str, tuple[str, float]]], ...] = (
                    ("after", entry.ended or entry.time, after.get(finding.id, {})),
                    ("now", time, today.get(finding.id, {})),
                )
                for moment, when, figures in later:
                    if key in figures:
                        readings.append(Reading(when, moment, figures[key][1]))
                if len(readings) > 1:
                    found.append(
                        Series(finding.id, finding.condition, key, unit, entry.id, tuple(readings))
                    )
    return tuple(found)


def _figures(finding: Finding) -> dict[str, tuple[str, float]]:
    """Return the numbers of a finding's evidence that moved within a window, by key."""
    figures = {}
    for item in finding.evidence:
        window = _WINDOW.search(item.note)
        if window and _FIGURE.fullmatch(item.value):
            unit = f"in {window.group(1)} s"
            figures[f"{item.source} {item.key}"] = (unit, float(item.value.lstrip("+")))
    return figures
