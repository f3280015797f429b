"""Let one link listen to IPv6 routers although it forwards.

What it changes
    ``net.ipv6.conf.LINK.accept_ra`` to 2, in this namespace, for the link that has an address of a
    router's announcement.

Safety
    The link takes default routes and prefixes of routers' announcements again, as it did before
    forwarding was switched on; no other link does, above all no bridge of containers, which could
    announce themselves. The route comes with the router's next announcement (RFC 4861: at most
    every 30 minutes; most send one each few minutes). Nothing is written for boot: with
    systemd-networkd say ``IPv6AcceptRA=yes`` there.

What rollback restores
    The value that was read before. A route that was learned meanwhile stays until it expires.

References
    ip-sysctl.rst of the kernel: accept_ra; RFC 4861, 6.2.1
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts.switches import key_of
from remedies.model import Finding, Risk, Terms, Wanted

TITLE = "Let one link listen to IPv6 routers although it forwards"
ANSWERS = ("ipv6-ra-route-lost",)
RISK: Risk = "low"
HARMLESS = False
NEEDS: tuple[type, ...] = ()
TOPICS: tuple[str, ...] = ()
PARAMS: Mapping[str, object] = {}
WRITES = ("sysctl:net.ipv6.conf.*.accept_ra",)


def guard(finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return why it cannot be done, or None."""
    return None if finding is not None else "it needs a finding: which link lost its route"


def desired(finding: Optional[Finding], facts: Facts, terms: Terms) -> tuple[Wanted, ...]:
    """Return the link's setting as it shall be."""
    if finding is None:
        return ()
    return (Wanted(f"sysctl:{key_of(finding.details['link'], 'accept_ra', 6)}", "2"),)


def impact(finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
    """Return what the setting does to traffic."""
    link = "it" if finding is None else finding.details["link"]
    return f"the next router's announcement on {link} brings an IPv6 default route"
