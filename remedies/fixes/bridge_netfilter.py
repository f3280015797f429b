"""Show bridged packets to conntrack and the firewall.

What it changes
    ``net.bridge.bridge-nf-call-iptables`` (``-ip6tables`` for IPv6) to 1, in this namespace.

Safety
    From then on what passes any bridge of this namespace from port to port also passes the
    firewall's forward chains: with a policy of drop there, virtual machines that share a bridge
    lose each other. Refused where another bridge has ports than the network's own, and where
    br_netfilter is not loaded: loading a module cannot be undone exactly. Nothing is written for
    boot.

What rollback restores
    The value that was read before.

References
    ip-sysctl.rst of the kernel: bridge-nf-call-iptables; net/bridge/br_netfilter_hooks.c
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts.sysctl import Sysctl
from remedies.model import Finding, Risk, Terms, Wanted
from remedies.netlink.links import Links

TITLE = "Show bridged packets to conntrack"
ANSWERS = ("bridge-netfilter-missing",)
RISK: Risk = "moderate"
HARMLESS = False
NEEDS = (Links, Sysctl)
TOPICS: tuple[str, ...] = ()
PARAMS: Mapping[str, object] = {}
WRITES = (
    "sysctl:net.bridge.bridge-nf-call-iptables",
    "sysctl:net.bridge.bridge-nf-call-ip6tables",
)


def guard(finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return why it cannot be done, or None; raise Unreadable."""
    if finding is None:
        return "it needs a finding: which bridge's packets have to be seen"
    if facts.get(Sysctl).get(finding.details["key"]) is None:
        return f"{finding.details['key']}: br_netfilter is not loaded; 'modprobe br_netfilter'"
    links = facts.get(Links)
    others = sorted(
        {
            links.name(link.master)
            for link in links.links
            if link.master is not None and links.kind(link.master) == "bridge"
        }
        - {finding.details["link"]}
    )
    if others and finding.verdict != "mitigated":
        return f"it would also send packets of {', '.join(others)} through the firewall's rules"
    return None


def desired(finding: Optional[Finding], facts: Facts, terms: Terms) -> tuple[Wanted, ...]:
    """Return the switch as it shall be."""
    return () if finding is None else (Wanted(f"sysctl:{finding.details['key']}", "1"),)


def impact(finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
    """Return what the switch does to traffic."""
    return "packets from port to port of a bridge pass conntrack and the firewall's forward chains"
