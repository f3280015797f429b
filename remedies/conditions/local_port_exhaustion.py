"""Connections to one address fail at once: every local port is in use towards it.

What it detects
    TCP sockets of this namespace between one of its addresses and one destination that use nearly
    all local ports there are. ``active``: all of them; ``exposed``: nine of ten; ``mitigated``:
    most are in TIME_WAIT, and ``tcp_tw_reuse`` lets clients take them again.

Why it matters
    connect(2) fails with "Cannot assign requested address", and no counter moves and nothing is
    logged. A proxy, or a program that opens a connection for each request, works for hours and
    fails under load, towards one service alone. Ports stay in TIME_WAIT for a minute after they
    were closed.

Evidence
    The sockets, counted by sock_diag, how many of them are in TIME_WAIT, and
    ``ip_local_port_range`` less ``ip_local_reserved_ports`` and what listens within it.

False positives
    A burst that ends by itself: look again. A program that chooses its source port or address by
    bind(2) is not held to the range.

References
    ip-sysctl.rst of the kernel: ip_local_port_range, tcp_tw_reuse; __inet_hash_connect() in
    net/ipv4/inet_hashtables.c
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts.crowds import CROWDED, RANGE, REUSE, Crowd, Crowds
from remedies.facts.sysctl import Sysctl
from remedies.model import Evidence, Finding, Severity
from remedies.printable import at

TITLE = "Local ports towards one address are used up"
SYMPTOM = '"Cannot assign requested address" from a client or a proxy, towards one service alone'
SEVERITY: Severity = "high"
AREA = "limits"
CONTROLS = ("NIST-800-53 SC-5",)
NEEDS = (Crowds, Sysctl)
PARAMS: Mapping[str, object] = {}

_TIMESTAMPS = "net.ipv4.tcp_timestamps"


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each destination that uses nearly all ports. Raises Unreadable."""
    ports = facts.get(Crowds)
    return tuple(_finding(crowd, ports.available, facts) for crowd in ports.crowds)


def _finding(crowd: Crowd, available: int, facts: Facts) -> Finding:
    where, sysctl = at(crowd.destination, str(crowd.port)), facts.get(Sysctl)
    covered = _covered(crowd, available, facts)
    full = crowd.used >= available
    owner = crowd.owner
    who = f", {owner.name} (process {owner.pid}) has others" if owner is not None else ""
    return Finding(
        condition="local-port-exhaustion",
        subject=f"tcp {crowd.address} to {where}",
        verdict="mitigated" if covered else "active" if full else "exposed",
        severity=SEVERITY if full else "medium",
        message=f"{crowd.used} of {available} local ports are in use from {crowd.address} to "
        f"{where}: {crowd.waiting} wait for their end (TIME_WAIT){who}; let the program keep its "
        f"connections, or widen {RANGE}",
        evidence=(
            Evidence("sock_diag", f"local ports to {where}", str(crowd.used), f"of {available}"),
            Evidence("sock_diag", "in TIME_WAIT", str(crowd.waiting)),
            Evidence("/proc/sys", RANGE, sysctl.get(RANGE) or ""),
            Evidence("/proc/sys", REUSE, sysctl.get(REUSE) or "no such key"),
        ),
        mitigated_by=covered,
        details={
            "destination": crowd.destination,
            "port": str(crowd.port),
            "used": str(crowd.used),
            "waiting": str(crowd.waiting),
        },
    )


def _covered(crowd: Crowd, available: int, facts: Facts) -> Optional[str]:
    """Return what lets clients take the ports again that are in TIME_WAIT, if those are enough."""
    sysctl = facts.get(Sysctl)
    living = crowd.used - crowd.waiting
    if sysctl.get(REUSE) != "1" or sysctl.get(_TIMESTAMPS) == "0" or living >= CROWDED * available:
        return None
    resource = f"sysctl:{REUSE}"
    return f"remedy {resource}" if resource in facts.ours else f"{REUSE} = 1"
