"""Let the links of a container network forward IPv4, and no others.

What it changes
    ``net.ipv4.conf.LINK.forwarding`` to 1, in this namespace, for the network's bridge and for the
    links with a default route, where it is 0.

Safety
    A link that forwards passes what arrives on it to every other link that the firewall's forward
    chains let it pass to. It is narrower than ``net.ipv4.ip_forward``, which does so for all links
    and changes ``accept_redirects`` along with it (inet_forward_change(), net/ipv4/devinet.c): what
    this fix writes can be given back exactly. Refused for IPv6, where forwarding ends accepting of
    router advertisements, and where no link has a default route. Nothing is written for boot: a
    line of sysctl.d that sets forwarding off is its owner's to change, and the finding names it.

What rollback restores
    The values that were read before.

References
    ip-sysctl.rst of the kernel: forwarding; ip_route_input_slow() in net/ipv4/route.c
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts.routes import Routes
from remedies.facts.switches import key_of
from remedies.model import Finding, Risk, Terms, Wanted

TITLE = "Let a container network's links forward IPv4"
ANSWERS = ("ip-forward-off",)
RISK: Risk = "moderate"
HARMLESS = False
NEEDS = (Routes,)
TOPICS: tuple[str, ...] = ()
PARAMS: Mapping[str, object] = {}
WRITES = ("sysctl:net.ipv4.conf.*.forwarding",)


def guard(finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return why it cannot be done, or None; raise Unreadable."""
    if finding is None:
        return "it needs a finding: which network is not forwarded"
    if finding.verdict == "mitigated":
        return None
    if finding.details.get("family") != "4":
        return "forwarding of IPv6 is one switch for all links, and ends accepting of routers"
    if not any(route.family == 4 for route in facts.get(Routes).defaults):
        return "no link has a default route: which link leads out is not known"
    return None


def desired(finding: Optional[Finding], facts: Facts, terms: Terms) -> tuple[Wanted, ...]:
    """Return the switch of each link that does not forward, as it shall be."""
    if finding is None:
        return ()
    return tuple(
        Wanted(f"sysctl:{key_of(link, 'forwarding')}", "1")
        for link in finding.details.get("links", "").split()
    )


def impact(finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
    """Return what the switches do to traffic."""
    links = "" if finding is None else finding.details.get("links", "").replace(" ", " and ")
    return f"IPv4 that arrives on {links} is forwarded if the firewall lets it pass"
