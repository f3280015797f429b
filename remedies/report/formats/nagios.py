"""One line for a monitoring system: the state, the worst findings, and figures to plot."""

from __future__ import annotations

from collections.abc import Iterator

from remedies.outcomes import JUDGED
from remedies.printable import for_plugin
from remedies.report.record import Report, counts, failures, is_open, order

HELP = "one line, OK, WARNING, CRITICAL or UNKNOWN, with performance data"

_CUT = 200


def render(report: Report) -> Iterator[str]:
    """Yield ``REMEDY STATE - what | figures``.

    CRITICAL where a fault of severity critical or high stands; WARNING where another does, or a
    host came out of a rollout otherwise than confirmed; UNKNOWN where something, or all, was not
    judged or a host was not reached; else OK. The pipe and line ends mean something to the reader
    and are taken out of what comes from hosts.
    """
    found = counts(report)
    standing = sorted((j for h in report.hosts for j in h.judgements if is_open(j)), key=order)
    failed = failures(report)
    if any(j.severity in ("critical", "high") for j in standing):
        state = "CRITICAL"
    elif standing or failed:
        state = "WARNING"
    elif found["unknown"] or report.unreached or not any(found.values()):
        state = "UNKNOWN"
    else:
        state = "OK"
    what = [f"{j.condition} {j.verdict}" for j in standing[:3]]
    what += [f"{name} {why}" for name, why in failed[:1]]
    what += [f"{len(failed) - 1} more hosts"] if len(failed) > 1 else []
    what += [f"{len(standing) - 3} more"] if len(standing) > 3 else []
    what += [f"{found['unknown']} not judged"] if found["unknown"] else []
    what += [f"{len(report.unreached)} not reached"] if report.unreached else []
    figures = " ".join(f"{outcome.replace('-', '_')}={found[outcome]}" for outcome in JUDGED)
    text = ", ".join(what) or ("nothing found" if any(found.values()) else "nothing judged")
    yield f"REMEDY {state} - {for_plugin(text)[:_CUT]} | {figures}\n"
