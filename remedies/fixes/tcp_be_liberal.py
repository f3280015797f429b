"""Let conntrack pass TCP segments that lie outside the window, so that NAT still applies to them.

What it changes
    ``net.netfilter.nf_conntrack_tcp_be_liberal`` to 1, in this namespace. Where policy persists:
    a drop-in in /etc/sysctl.d that sorts last (``99-sysctl.conf`` is /etc/sysctl.conf on Debian)
    and an entry in /etc/modules-load.d, since the key does not exist before nf_conntrack is
    loaded: systemd loads modules before it sets sysctls.

Safety
    First in the shipped policies: in the harm matrix (tests/kernel/test_harm_matrix.py prints it;
    ``remedy explain invalid-drop`` sums it up) it healed in every world that has the fault, and
    ended nothing in any, over IPv4 and IPv6. What it gives up, from the kernel's source
    (nf_conntrack_proto_tcp.c, tcp_in_window() and nf_tcp_log_invalid()): conntrack no longer checks
    the window of any TCP flow of this namespace, NATed or not, so a firewall that drops INVALID
    drops fewer forged segments, and the receiver's own TCP judges them, as it does without
    conntrack. A reset below what was acknowledged last stays INVALID, and a segment of a
    connection that conntrack does not know, or has forgotten, is not changed by it. Others write
    the key, too: kube-proxy (conntrack.tcpBeLiberal), sysctl.d of distributions and of cloud
    agents; a plan names those it finds. The drop-in begins its line with ``-``: a key that is
    missing at boot is skipped and holds nothing up. Refused where the key does not exist: nothing
    tracks connections there.

What rollback restores
    The value that was read before, and the boot files are removed or given back their content.

References
    Documentation/networking/nf_conntrack-sysctl.rst; net/netfilter/nf_conntrack_proto_tcp.c
    (nf_tcp_log_invalid); kubernetes/kubernetes#122663; Azure/aks-engine#1068 (the missing key)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts.sysctl import Sysctl
from remedies.model import Finding, Risk, Terms, Wanted

TITLE = "Accept TCP segments outside the window (nf_conntrack_tcp_be_liberal)"
ANSWERS = ("tcp-invalid-reset", "tcp-invalid-stall")
RISK: Risk = "low"
HARMLESS = True
NEEDS = (Sysctl,)
TOPICS: tuple[str, ...] = ()
PARAMS: Mapping[str, object] = {}

KEY = "net.netfilter.nf_conntrack_tcp_be_liberal"
DROP_IN = "/etc/sysctl.d/99-zz-remedy-tcp-be-liberal.conf"
MODULES = "/etc/modules-load.d/remedy-nf_conntrack.conf"
WRITES = (f"sysctl:{KEY}", f"file:{MODULES}", f"file:{DROP_IN}")

_WHOSE = "# Written by remedy (fix tcp-be-liberal); 'remedy rollback' takes it away.\n"


def guard(finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return why the key cannot be set here, or None; raise Unreadable."""
    sysctl = facts.get(Sysctl)
    if KEY in sysctl.values:
        return None
    return f"{KEY}: {sysctl.missing.get(KEY, 'it was not read')}"


def desired(finding: Optional[Finding], facts: Facts, terms: Terms) -> tuple[Wanted, ...]:
    """Return the value, and the two boot files where policy persists."""
    now = Wanted(resource=f"sysctl:{KEY}", state="1")
    if not terms.persist:
        return (now,)
    return (
        now,
        Wanted(resource=f"file:{MODULES}", state=f"{_WHOSE}nf_conntrack\n", boot=True),
        Wanted(resource=f"file:{DROP_IN}", state=f"{_WHOSE}-{KEY} = 1\n", boot=True),
    )


def impact(finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
    """Return what the setting does to traffic."""
    return (
        "conntrack passes TCP segments outside the window in this namespace; live connections go on"
    )
