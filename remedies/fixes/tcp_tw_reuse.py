"""Let clients take local ports again a second after their last connection has ended.

What it changes
    ``net.ipv4.tcp_tw_reuse`` to 1, in this namespace. Where policy persists: a drop-in in
    /etc/sysctl.d that sorts last.

Safety
    A socket in TIME_WAIT is taken over for a new connection to the same address and port after
    ``tcp_tw_reuse_delay`` (a second), if both ends use timestamps, by which late segments of the
    last connection are told (RFC 6191). Servers are not touched: it is asked for by connect(2)
    alone. Refused where timestamps are off, and where most of the ports are not in TIME_WAIT: there
    it would give back nothing.

What rollback restores
    The value that was read before, and the drop-in is removed or given back its content.

References
    ip-sysctl.rst of the kernel: tcp_tw_reuse; tcp_twsk_unique() in net/ipv4/tcp_ipv4.c; RFC 6191
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts.crowds import REUSE
from remedies.facts.sysctl import Sysctl
from remedies.model import Finding, Risk, Terms, Wanted

TITLE = "Reuse local ports that are in TIME_WAIT"
ANSWERS = ("local-port-exhaustion",)
RISK: Risk = "low"
HARMLESS = False
NEEDS = (Sysctl,)
TOPICS: tuple[str, ...] = ()
PARAMS: Mapping[str, object] = {}

DROP_IN = "/etc/sysctl.d/99-zz-remedy-tcp-tw-reuse.conf"
WRITES = (f"sysctl:{REUSE}", f"file:{DROP_IN}")
_TIMESTAMPS = "net.ipv4.tcp_timestamps"


def guard(finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return why it would be of no use here, or None; raise Unreadable."""
    sysctl = facts.get(Sysctl)
    if sysctl.get(REUSE) is None:
        return f"{REUSE}: this kernel has no such key here"
    if sysctl.get(_TIMESTAMPS) == "0":
        return f"{_TIMESTAMPS} is 0: without timestamps no port in TIME_WAIT is taken again"
    if finding is not None:
        used, waiting = int(finding.details["used"]), int(finding.details["waiting"])
        if 2 * waiting < used:
            return f"{used - waiting} of the {used} ports are of connections that live"
    return None


def desired(finding: Optional[Finding], facts: Facts, terms: Terms) -> tuple[Wanted, ...]:
    """Return the value, and the drop-in where policy persists."""
    now = Wanted(f"sysctl:{REUSE}", "1")
    if not terms.persist:
        return (now,)
    text = "# Written by remedy (fix tcp-tw-reuse); 'remedy rollback' takes it away.\n"
    return (now, Wanted(f"file:{DROP_IN}", f"{text}-{REUSE} = 1\n", boot=True))


def impact(finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
    """Return what the setting does to traffic."""
    return "clients of this namespace take ports in TIME_WAIT again; live connections go on"
