"""The table of neighbours is full, and packets for addresses that are not in it are lost.

What it detects
    ``table_fulls`` of the ARP or neighbour discovery table moved while scan watched, in the
    machine's own namespace: a new entry was refused, because as many as ``gc_thresh3`` allows are
    in use and none can be taken out.

Why it matters
    The table is one for all network namespaces of the machine. Where many containers talk to many
    neighbours, new ones cannot be reached: *No buffer space available*, *No route to host*, for
    whoever comes last, in whichever container.

Evidence
    ``table_fulls`` and ``entries`` in /proc/net/stat/arp_cache and ndisc_cache, and the limits. It
    was not seen on a kernel in the lab: the limits are the machine's.

False positives
    A scan of a whole network (nmap, a monitoring discovery) fills the table for a minute. What was
    counted before the scan is not reported. In another namespace than the machine's own the counter
    is not to be seen, and nothing is said.

References
    arp(7); ip-sysctl.rst of the kernel: neigh/default/gc_thresh3; neigh_alloc() in
    net/core/neighbour.c; kubernetes/kops#4533
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.facts import Facts
from remedies.facts.shared import TABLES, THRESHOLDS, Shared
from remedies.model import Evidence, Finding, Severity

TITLE = "The kernel's table of neighbours is full"
SYMPTOM = '"neighbour table overflow"; some addresses of the same network cannot be reached'
SEVERITY: Severity = "high"
AREA = "limits"
CONTROLS = ("NIST-800-53 SC-5",)
NEEDS = (Shared,)
PARAMS: Mapping[str, object] = {}

_ROOMY = (8192, 49152, 65536)
"""For ``gc_thresh1`` to 3: what Docker sets for its overlay networks (moby, ostweaks_linux.go)."""


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each table that was full. Raises Unreadable."""
    shared = facts.get(Shared)
    return tuple(
        Finding(
            condition="neighbour-table-overflow",
            subject=name,
            verdict="active",
            severity=SEVERITY,
            message=_message(name, count, shared),
            evidence=(
                Evidence(f"/proc/net/stat/{name}", "table_fulls", f"+{count}",
                         f"in {facts.window:g} s"),
                Evidence(f"/proc/net/stat/{name}", "entries", str(shared.entries.get(name, 0))),
                *(Evidence("/proc/sys", key, str(shared.limits[key])) for key in _keys(name)
                  if key in shared.limits),
            ),
        )
        for name, count in shared.fulls.items()
        if count > 0
    )  # fmt: skip


def _keys(name: str) -> tuple[str, ...]:
    return tuple(f"{TABLES[name]}.{limit}" for limit in THRESHOLDS)


def _message(name: str, count: int, shared: Shared) -> str:
    now = [shared.limits.get(key, 0) for key in _keys(name)]
    times = max(1, -(-2 * now[2] // _ROOMY[2]))  # at least twice the room there is
    # Highest first, so that they stay in order.
    sets = [f"{k}={v * times}" for k, v in reversed([*zip(_keys(name), _ROOMY)])]
    return (
        f"the table had no room for {count} new entries while scan watched: it has "
        f"{shared.entries.get(name, 0)} and may have {now[2] or 'no more'}; if that many "
        f"neighbours are expected: 'sysctl -w {' '.join(sets)}'"
    )
