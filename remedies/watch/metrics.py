"""What a watch knows, as OpenMetrics text or for node_exporter's textfile collector. Pure.

Names follow prometheus.io/docs/practices/naming. No label holds a subject or a namespace, whose
values are without end: those are in the watch's lines. For each condition exactly one ``verdict``
of ``remedy_condition_status`` is 1, so that an alert clears.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Optional, Union

from remedies import __version__
from remedies.model import VERDICTS
from remedies.values import dataclass, field
from remedies.watch.baseline import WatchedNamespace
from remedies.watch.events import EventKind

ABSENT = "absent"
DROPS = frozenset(
    (
        "Ip.InAddrErrors",
        "TcpExt.IPReversePathFilter",
        "TcpExt.ListenDrops",
        "Udp.RcvbufErrors",
        "Udp6.RcvbufErrors",
        "nf_conntrack.drop",
        "nf_conntrack.insert_failed",
        "softnet.dropped",
    )
)
"""The counters of the pulse that count packets which went no further."""
ENDS = ("applied", "rolled-back", "incomplete")
"""How an apply with nobody there can end; there is a number for each from the beginning."""
EVENTS: tuple[EventKind, ...] = ("appeared", "changed", "cleared")

Number = Union[int, float]
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class WatchNumbers:
    """What is counted since the watch began, and how things stand."""

    conditions: tuple[str, ...]
    """Those that policy watches."""
    namespaces: tuple[WatchedNamespace, ...]
    """This process's own namespace, and the others."""
    own: str = ""
    """The key of its own."""
    ready: bool = False
    last_success: Optional[float] = None
    """Unix time at which everything that was to be scanned had been scanned, the last time."""
    scans: int = 0
    failed: int = 0
    scan_seconds: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)
    """How far each counter of the pulse went, over all namespaces."""
    events: dict[str, int] = field(default_factory=dict)
    fixes: dict[str, bool] = field(default_factory=dict)
    """By fix: everything of it is as it was written."""
    hits: dict[str, int] = field(default_factory=dict)
    """Packets that the rules of a fix counted, by fix."""
    unattended: Optional[dict[str, int]] = None
    """Applies with nobody there, by outcome; None: the watch applies nothing."""
    stopped: bool = False
    """It applies nothing until a person says so."""


@dataclass(frozen=True)
class MetricFamily:
    """One metric: its samples are suffix, labels and value."""

    name: str
    kind: str
    help: str
    samples: tuple[tuple[str, Labels, Number], ...]


def text(numbers: WatchNumbers, *, openmetrics: bool) -> str:
    """Return the exposition: OpenMetrics 1.0, or the older text format 0.0.4."""
    lines: list[str] = []
    for family in families(numbers):
        lines += _openmetrics(family) if openmetrics else _older(family)
    return "\n".join([*lines, *(("# EOF",) if openmetrics else ()), ""])


def families(numbers: WatchNumbers) -> Iterator[MetricFamily]:
    """Yield every metric. Verdicts are there once the first interval is over, not before."""
    yield MetricFamily(
        "remedy_build",
        "info",
        "The version of remedy.",
        (("_info", (("version", __version__),), 1),),
    )
    yield _gauge(
        "remedy_watch_ready",
        "1 if everything was scanned and a whole interval has passed.",
        int(numbers.ready),
    )
    yield _gauge("remedy_namespaces", "Network namespaces watched.", len(numbers.namespaces))
    if numbers.ready:
        yield from _verdicts(numbers)
    if numbers.last_success is not None:
        yield _gauge(
            "remedy_last_success_timestamp_seconds",
            "When every namespace had last been scanned.",
            numbers.last_success,
        )
    yield MetricFamily(
        "remedy_scan_duration_seconds",
        "summary",
        "Scans of a namespace, and how long they took with the time they listened.",
        (("_count", (), numbers.scans), ("_sum", (), round(numbers.scan_seconds, 3))),
    )
    yield _counter("remedy_scans_failed", "Scans without a result.", "", {"": numbers.failed})
    yield _counter(
        "remedy_watch_events",
        "Findings that appeared, changed or cleared.",
        "event",
        {name: numbers.events.get(name, 0) for name in EVENTS},
    )
    drops = {name: count for name, count in numbers.counters.items() if name in DROPS}
    signs = {name: count for name, count in numbers.counters.items() if name not in DROPS}
    yield _counter(
        "remedy_drops", "Packets and connections dropped, by the kernel's counter.", "reason", drops
    )
    yield _counter(
        "remedy_signs", "Other counters of the kernel that point to a fault.", "counter", signs
    )
    yield from _conntrack(numbers)
    yield MetricFamily(
        "remedy_fix_active",
        "gauge",
        "1 if everything of a fix in force is as it was written.",
        tuple(("", (("fix", fix),), int(ours)) for fix, ours in sorted(numbers.fixes.items())),
    )
    yield _counter("remedy_rule_hits", "Packets that a fix's rules met.", "fix", numbers.hits)
    if numbers.unattended is not None:
        ends = {**dict.fromkeys(ENDS, 0), **numbers.unattended}
        yield _counter(
            "remedy_unattended_applies", "Applies with nobody there, by outcome.", "outcome", ends
        )
        yield _gauge(
            "remedy_unattended_stopped",
            "1 if nothing is applied with nobody there until a person says so.",
            int(numbers.stopped),
        )


def _verdicts(numbers: WatchNumbers) -> Iterator[MetricFamily]:
    """Yield the strongest verdict of each condition, and how many findings there are of each."""
    found = {(name, verdict): 0 for name in numbers.conditions for verdict in VERDICTS}
    waived = 0
    for namespace in numbers.namespaces:
        for each in namespace.seen:
            if each.waived:
                waived += 1
            elif (each.condition, each.verdict) in found:
                found[each.condition, each.verdict] += 1
    states: list[tuple[str, Labels, Number]] = []
    for name in numbers.conditions:
        strongest = next((v for v in reversed(VERDICTS) if found[name, v]), ABSENT)
        for verdict in (ABSENT, *VERDICTS):
            labels = (("condition", name), ("verdict", verdict))
            states.append(("", labels, int(verdict == strongest)))
    yield MetricFamily(
        "remedy_condition_status",
        "gauge",
        "1 for the strongest verdict of a condition over all namespaces, 0 for the others.",
        tuple(states),
    )
    yield MetricFamily(
        "remedy_findings",
        "gauge",
        "Findings, without those that are waived.",
        tuple(
            ("", (("condition", name), ("verdict", verdict)), count)
            for (name, verdict), count in found.items()
        ),
    )
    yield _gauge("remedy_findings_waived", "Findings that policy has waived.", waived)


def _conntrack(numbers: WatchNumbers) -> Iterator[MetricFamily]:
    """Yield how full conntrack's table is: here, and where it is fullest."""
    pulses = [each.pulse for each in numbers.namespaces if each.pulse.limit]
    here = [each.pulse for each in numbers.namespaces if each.place.key == numbers.own]
    if here and here[0].limit:
        yield _gauge(
            "remedy_conntrack_entries",
            "Entries of the conntrack table in this namespace.",
            here[0].entries,
        )
        yield _gauge(
            "remedy_conntrack_limit", "Entries that the conntrack table may have.", here[0].limit
        )
    if pulses:
        fullest = max(pulse.entries / pulse.limit for pulse in pulses)
        yield _gauge(
            "remedy_conntrack_fullest_ratio",
            "Share of the conntrack table in use, where it is fullest.",
            round(fullest, 6),
        )


def _gauge(name: str, said: str, value: Number) -> MetricFamily:
    return MetricFamily(name, "gauge", said, (("", (), value),))


def _counter(name: str, said: str, label: str, values: Mapping[str, int]) -> MetricFamily:
    samples = ((((label, key),) if label else (), count) for key, count in sorted(values.items()))
    return MetricFamily(
        name, "counter", said, tuple(("_total", labels, count) for labels, count in samples)
    )


def _openmetrics(family: MetricFamily) -> Iterable[str]:
    yield f"# TYPE {family.name} {family.kind}"
    yield f"# HELP {family.name} {family.help}"
    yield from _samples(family)


def _older(family: MetricFamily) -> Iterable[str]:
    """Yield a family as format 0.0.4 has it: by the samples' own name, and without ``info``."""
    suffix = {"counter": "_total", "info": "_info"}.get(family.kind, "")
    kind = "gauge" if family.kind == "info" else family.kind
    yield f"# HELP {family.name}{suffix} {family.help}"
    yield f"# TYPE {family.name}{suffix} {kind}"
    yield from _samples(family)


def _samples(family: MetricFamily) -> Iterator[str]:
    for suffix, labels, value in family.samples:
        named = ",".join(f'{name}="{_escaped(worth)}"' for name, worth in labels)
        yield f"{family.name}{suffix}{f'{{{named}}}' if named else ''} {value}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
