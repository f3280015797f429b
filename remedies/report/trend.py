"""Two reports compared: what has become better and worse on each host since. Pure.

A condition is compared by its worst outcome on a host and namespace: which subjects it has (a
port, a link) differs from day to day.
"""

from __future__ import annotations

from remedies import codec
from remedies.outcomes import JUDGED
from remedies.report import written
from remedies.report.record import HostReport, Judgement, Moved, Report, Trend

_VERDICTS = ("proven", "active", "exposed", "unknown", "mitigated", "absent", "off")
"""Worst first."""
Worst = dict[str, Judgement]
"""By condition."""


def read(text: str, where: str) -> Report:
    """Return the report that the ``json`` format wrote; raise InputError."""
    plain = written.plain(text, where)
    head = ("kind", "format_version")
    return codec.decode(Report, {k: v for k, v in plain.items() if k not in head}, where)


def trend(earlier: Report, report: Report) -> Trend:
    """Return what moved between two reports; hosts that only one of them judges are named."""
    then, now = _judged(earlier), _judged(report)
    better: list[Moved] = []
    worse: list[Moved] = []
    same = 0
    for host in now.keys() & then.keys():
        for condition, judgement in now[host].items():
            before = then[host].get(condition)
            if before is None:  # an older version did not know it
                continue
            step = _rank(judgement) - _rank(before)
            same += step == 0
            moved = Moved(host, condition, before.outcome, before.verdict,
                          judgement.outcome, judgement.verdict)  # fmt: skip
            (better if step > 0 else worse if step < 0 else []).append(moved)
    return Trend(
        since=earlier.made,
        better=tuple(sorted(better, key=_place)),
        worse=tuple(sorted(worse, key=_place)),
        same=same,
        new=tuple(sorted(now.keys() - then.keys())),
        gone=tuple(sorted(then.keys() - now.keys())),
    )


def _judged(report: Report) -> dict[str, Worst]:
    """Return the worst judgement of each condition, by host and namespace."""
    return {name(host): _worst(host) for host in report.hosts if host.judgements}


def name(host: HostReport) -> str:
    """Return a host and, where it is not the host's own, its namespace."""
    place = host.place
    return place.name if place.netns == "host" else f"{place.name}, namespace {place.netns}"


def _worst(host: HostReport) -> Worst:
    found: Worst = {}
    for judgement in host.judgements:
        known = found.setdefault(judgement.condition, judgement)
        found[judgement.condition] = min(known, judgement, key=_rank)
    return found


def _rank(judgement: Judgement) -> int:
    """Return how well it is: the lower, the worse."""
    return JUDGED.index(judgement.outcome) * len(_VERDICTS) + _VERDICTS.index(judgement.verdict)


def _place(moved: Moved) -> tuple[str, str]:
    return moved.host, moved.condition
