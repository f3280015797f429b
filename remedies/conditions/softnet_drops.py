"""Packets come faster than a processor takes them, and the kernel drops them before any rule.

What it detects
    The second column of /proc/net/softnet_stat moved while scan watched, in the machine's own
    namespace: a processor's backlog had no room for packets.

Why it matters
    Every packet between containers goes through the backlog of one processor. What is dropped there
    is in no counter of an interface or a rule: SYNs and DNS answers are lost at random while
    everything else looks healthy.

Evidence
    Drops by processor, and ``net.core.netdev_max_backlog``. It was not seen on a kernel in the lab:
    backlogs are the machine's.

False positives
    A flood that is meant to be dropped. The third column (the time of a round was up) is normal
    under load, and is not counted; what was dropped before the scan is not, either. In another
    namespace than the machine's own nothing is said: the backlogs are not its own.

References
    Documentation/admin-guide/sysctl/net.rst of the kernel: netdev_max_backlog, netdev_budget;
    enqueue_to_backlog() in net/core/dev.c; Documentation/networking/scaling.rst: RPS
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.facts import Facts
from remedies.facts.shared import BACKLOG, Shared
from remedies.model import Evidence, Finding, Severity

TITLE = "A processor's packet backlog overflows"
SYMPTOM = (
    "packets between containers are lost at random under load, and all other counters are clean"
)
SEVERITY: Severity = "medium"
AREA = "limits"
CONTROLS = ("NIST-800-53 SC-5",)
NEEDS = (Shared,)
PARAMS: Mapping[str, object] = {}

_MOST = 16384
"""Beyond this a longer backlog is only more delay."""


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return one finding if a backlog overflowed. Raises Unreadable."""
    shared = facts.get(Shared)
    full = {cpu: count for cpu, count in shared.backlogs.items() if count > 0}
    if not full:
        return ()
    limit = shared.limits.get(BACKLOG)
    evidence = [
        Evidence("/proc/net/softnet_stat", f"cpu {cpu} dropped", f"+{n}", f"in {facts.window:g} s")
        for cpu, n in full.items()
    ]
    if limit is not None:
        evidence.append(Evidence("/proc/sys", BACKLOG, str(limit)))
    return (
        Finding(
            condition="softnet-drops",
            subject="packet backlog",
            verdict="active",
            severity=SEVERITY,
            message=f"{sum(full.values())} packets were dropped at the full backlog of a processor "
            f"while scan watched (processor {', '.join(full)}); "
            f"{_advice(limit, len(full), shared)}",
            evidence=tuple(evidence),
        ),
    )


def _advice(limit: int | None, full: int, shared: Shared) -> str:
    if limit is not None and limit < _MOST:
        return f"'sysctl -w {BACKLOG}={min(5 * limit, _MOST)}' allows a longer queue"
    if full < len(shared.backlogs):
        return "spread the load over more processors (RPS: scaling.rst of the kernel)"
    return "the limit cannot be raised further: see what sends so many packets ('remedy trace')"
