"""The connection tracking table is full, and the kernel drops the packets of new connections.

What it detects
    ``nf_conntrack_count`` near ``nf_conntrack_max`` in this namespace, and packets that conntrack
    dropped while scan watched because it had no room and no flow that may give way.

Why it matters
    Whoever is connected stays connected, and nobody new gets through, whatever the service. A full
    table alone is no such fault: while unassured flows give way, new connections pass.

Evidence
    Count and maximum, and the counters ``drop`` and ``insert_failed`` of conntrack over the window:
    a clash of two packets, or a NAT without a free port, counts in both, a full table in ``drop``
    alone. Who fills the table is in ``conntrack-pressure``, from which this follows.

False positives
    None known: what was dropped before the scan is not counted.

References
    nf_conntrack_in() and __nf_conntrack_alloc() in net/netfilter/nf_conntrack_core.c of the kernel;
    Documentation/networking/nf_conntrack-sysctl.rst
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.sysctl import Sysctl
from remedies.model import Evidence, Finding, Severity

TITLE = "The connection tracking table is full, and packets are dropped"
SYMPTOM = "no new connection gets through, whatever the service; established ones live"
SEVERITY: Severity = "critical"
AREA = "conntrack"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SC-5")
NEEDS = (Sysctl, Counters)
PARAMS: Mapping[str, object] = {}
FOLLOWS = ("conntrack-pressure",)

_COUNT, _MOST = "net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max"
_FULL = 0.95
"""The count is read at one moment of the window, and a flow or two end at any time."""


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return the finding if the table is full and drops. Raises Unreadable."""
    count, most = _number(facts, _COUNT), _number(facts, _MOST)
    if count is None or not most or count < _FULL * most:
        return ()
    counters = facts.get(Counters)
    dropped = counters.delta("nf_conntrack.drop")
    if dropped is None:
        raise Unreadable("; ".join(counters.unread) or "no counter of conntrack's drops")
    failed = counters.delta("nf_conntrack.insert_failed") or 0
    lost = dropped - failed
    if lost <= 0:
        return ()
    window = f"in {facts.window:g} s"
    return (
        Finding(
            condition="conntrack-table-full",
            subject="nf_conntrack",
            verdict="active",
            severity=SEVERITY,
            message=f"{lost} packets of new connections were dropped while scan watched: {count} "
            f"of {most} flows are in use and none can be evicted; "
            f"'sysctl -w {_MOST}={2 * most}' in the "
            "machine's own namespace makes room until the cause is gone",
            evidence=(
                Evidence("/proc/sys", _COUNT, str(count)),
                Evidence("/proc/sys", _MOST, str(most)),
                Evidence("/proc/net/stat/nf_conntrack", "drop", f"+{dropped}", window),
                Evidence("/proc/net/stat/nf_conntrack", "insert_failed", f"+{failed}", window),
            ),
        ),
    )


def _number(facts: Facts, key: str) -> Optional[int]:
    text = facts.get(Sysctl).get(key)
    try:
        return None if text is None else int(text)
    except ValueError as error:
        raise Unreadable(f"{key} is not a number: {text!r}") from error
