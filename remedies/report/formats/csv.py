"""One row per judgement, for spreadsheets: no cell can be read as a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from remedies.report.record import HostReport, Judgement, Report, answer

HELP = "one row per judgement, guarded against formulas"

_COLUMNS = (
    "host",
    "netns",
    "time",
    "condition",
    "subject",
    "outcome",
    "verdict",
    "severity",
    "message",
    "controls",
    "transaction",
    "history",
    "approver",
    "change_id",
    "rollout",
    "rollout_reason",
    "verdict_before",
    "verdict_after",
    "waived",
    "policy",
    "evidence",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "|", "%")
"""What a spreadsheet takes for the beginning of a formula or a command."""
_CELL = 32_767
"""Characters a spreadsheet's cell can hold."""


def render(report: Report) -> Iterator[str]:
    """Yield the header, a row for each judgement, a row for each host never reached."""
    buffer = io.StringIO()
    rows = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    rows.writerow(_COLUMNS)
    for host in report.hosts:
        for judgement in host.judgements:
            rows.writerow([guarded(cell) for cell in _row(host, judgement)])
    for missing in report.unreached:
        cells = [missing.name, *[""] * 4, "unknown", "", "", f"not reached: {missing.reason}"]
        rows.writerow([guarded(cell) for cell in cells + [""] * (len(_COLUMNS) - len(cells))])
    yield buffer.getvalue()


def guarded(cell: str) -> str:
    """Return a cell that a spreadsheet takes for text, on one line."""
    line = " ".join(cell.split())[: _CELL - 1]
    return "'" + line if line.startswith(_FORMULA) else line


def _row(host: HostReport, judgement: Judgement) -> list[str]:
    deed = answer(host, judgement)
    seen = "; ".join(f"{e.source}: {e.key} {e.value}" for e in judgement.evidence)
    return [
        host.place.name,
        host.place.netns,
        judgement.time,
        judgement.condition,
        judgement.subject,
        judgement.outcome,
        judgement.verdict,
        judgement.severity,
        judgement.message,
        " ".join(judgement.controls),
        judgement.transaction,
        judgement.history,
        deed.actor.approver if deed else "",
        deed.actor.change_id if deed else "",
        host.rollout.state if host.rollout else "",
        host.rollout.message if host.rollout else "",
        judgement.verdict_before,
        judgement.verdict_after,
        judgement.waived or "",
        judgement.policy,
        seen,
    ]
