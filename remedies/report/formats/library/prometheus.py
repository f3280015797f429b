"""Gauges for the textfile collector of node_exporter, in the Prometheus text format."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from remedies.model import Severity
from remedies.outcomes import JUDGED, Judged
from remedies.report.record import Report, Seen

HELP = "gauges for node_exporter's textfile collector"

_CUT = 256
"""Characters of a label: a hostile name must not fill a time-series database."""


class _Gauges(Collector):
    """One report as metrics."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield each family; labels hold no subject, whose values are without end."""
        host = ("host", "netns")
        judged = GaugeMetricFamily(
            "remedy_judgements",
            "Findings by condition, severity, verdict and outcome.",
            labels=(*host, "condition", "severity", "verdict", "outcome"),
        )
        scanned = GaugeMetricFamily(
            "remedy_report_timestamp_seconds", "Time of the scan.", labels=host
        )
        deeds = GaugeMetricFamily(
            "remedy_transactions", "Transactions in the report.", labels=(*host, "outcome")
        )
        reached = GaugeMetricFamily(
            "remedy_host_reached", "1 if the host answered, 0 if not.", labels=("host",)
        )
        rollout = GaugeMetricFamily(
            "remedy_rollout",
            "How a host came out of the rollout, and why.",
            labels=(*host, "state", "reason"),
        )
        for item in self.report.hosts:
            labels = (_label(item.place.name), _label(item.place.netns))
            tally: dict[tuple[str, Severity, Seen, Judged], int] = {}
            for judgement in item.judgements:
                key = (
                    judgement.condition,
                    judgement.severity,
                    judgement.verdict,
                    judgement.outcome,
                )
                tally[key] = tally.get(key, 0) + 1
            for key, number in sorted(tally.items(), key=lambda e: JUDGED.index(e[0][3])):
                judged.add_metric((*labels, *key), number)
            scanned.add_metric(labels, datetime.fromisoformat(item.time).timestamp())
            outcomes: dict[str, int] = {}
            for deed in item.deeds:
                outcomes[deed.outcome] = outcomes.get(deed.outcome, 0) + 1
            for outcome, number in sorted(outcomes.items()):
                deeds.add_metric((*labels, _label(outcome)), number)
            reached.add_metric(labels[:1], 1)
            if item.rollout is not None:
                rollout.add_metric(
                    (*labels, _label(item.rollout.state), _label(item.rollout.message)), 1
                )
        for missing in self.report.unreached:
            reached.add_metric((_label(missing.name),), 0)
        yield from (judged, scanned, deeds, reached, *([rollout] if self.report.run else []))


def render(report: Report) -> Iterator[str]:
    """Yield the exposition text; the library escapes the labels."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gauges(report))
    yield generate_latest(registry).decode()


def _label(text: str) -> str:
    return " ".join(text.split())[:_CUT]
