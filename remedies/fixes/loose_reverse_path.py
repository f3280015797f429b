"""Make the reverse path filter of one link loose: a source needs a way back, by any link.

What it changes
    ``net.ipv4.conf.LINK.rp_filter`` to 2, in this namespace, for the link whose packets were
    dropped. The greater of a link's value and that of ``all`` counts, so no other link changes.

Safety
    A loose filter still drops sources without any route, and lets in forged ones that have a route
    elsewhere: the firewall has to know what may come in by this link. Only a link on which packets
    that would be answered were seen to be dropped is changed. A VPN that routes by marks is better
    served by ``src_valid_mark``, which the finding names. systemd-udevd sets the key of a link anew
    when it is made; nothing is written for boot.

What rollback restores
    The value that was read before.

References
    RFC 3704, 2.4; ip-sysctl.rst of the kernel: rp_filter; IN_DEV_RPFILTER in
    include/linux/inetdevice.h
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts.switches import Switches, key_of
from remedies.model import Finding, Risk, Terms, Wanted

TITLE = "Make the reverse path filter of one link loose"
ANSWERS = ("strict-reverse-path",)
RISK: Risk = "moderate"
HARMLESS = False
NEEDS = (Switches,)
TOPICS: tuple[str, ...] = ()
PARAMS: Mapping[str, object] = {}
WRITES = ("sysctl:net.ipv4.conf.*.rp_filter",)


def guard(finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
    """Return why it cannot be done, or None; raise Unreadable."""
    link = "" if finding is None else finding.details.get("link", "")
    if not link:
        return "it needs to know the link whose packets are dropped"
    if facts.get(Switches).of(link) is None:
        return f"there is no link {link}"
    return None


def desired(finding: Optional[Finding], facts: Facts, terms: Terms) -> tuple[Wanted, ...]:
    """Return the link's filter as it shall be."""
    link = "" if finding is None else finding.details.get("link", "")
    return (Wanted(f"sysctl:{key_of(link, 'rp_filter')}", "2"),) if link else ()


def impact(finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
    """Return what the setting does to traffic."""
    link = "it" if finding is None else finding.details.get("link", "it")
    return f"packets that arrive on {link} are accepted if any route leads back to their source"
