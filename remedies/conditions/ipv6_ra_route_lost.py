"""The host lost its IPv6 default route because it forwards and no longer listens to routers.

What it detects
    A link on which the kernel made an address of a router's announcement, which forwards IPv6 and
    has ``accept_ra`` 1, on a host without an IPv6 default route.

Why it matters
    With ``accept_ra`` 1 a link listens to routers only as long as it does not forward. Docker, when
    IPv6 is switched on in it, and Kubernetes switch forwarding on for all links: the kernel removes
    the default routes that it has learned, and takes no new ones. The address stays until it
    expires, so the host looks as if it had IPv6; nothing beyond its own subnet answers.

Evidence
    ``active``: the address that the kernel made (Linux 5.18 tells), the settings, and that no table
    has a default route.

False positives
    None known: where a program listens to routers (systemd-networkd, NetworkManager) the kernel's
    ``accept_ra`` is 0, and where a default route is not wanted ``accept_ra_defrtr`` is.

References
    ip-sysctl.rst of the kernel: accept_ra; rt6_purge_dflt_routers() in net/ipv6/route.c,
    addrconf_forward_change() in net/ipv6/addrconf.c; docker/for-linux#844, moby/moby#43466
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.facts import Facts
from remedies.facts.routes import Routes
from remedies.facts.switches import LinkSwitches, Switches, key_of
from remedies.model import Evidence, Finding, Severity, mitigated
from remedies.netlink.links import Links

TITLE = "The IPv6 default route is gone because the host forwards"
SYMPTOM = "the host lost IPv6 when Docker or Kubernetes switched forwarding on; IPv4 works"
SEVERITY: Severity = "high"
AREA = "forwarding"
CONTROLS = ("NIST-800-53 CM-6",)
NEEDS = (Links, Routes, Switches)
PARAMS: Mapping[str, object] = {}

SWITCH = "accept_ra"


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each such link. Raises Unreadable."""
    switches, links = facts.get(Switches), facts.get(Links)
    routed = any(route.family == 6 for route in facts.get(Routes).defaults)
    found = []
    for each in switches.links:
        key = key_of(each.link, SWITCH, 6)
        if f"sysctl:{key}" in facts.ours and each.accept_ra > 1:
            found.append(_mitigated(each, key))
        elif not routed and _deaf(each):
            announced = [
                item.address
                for item in links.addresses
                if item.announced and item.scope == "global" and links.name(item.link) == each.link
            ]
            found += [_finding(each, key, announced[0])] if announced else []
    return tuple(found)


def _deaf(link: LinkSwitches) -> bool:
    """Tell whether a link would take a default route from routers and, because it forwards, not."""
    return link.forwarding6 and link.accept_ra == 1 and link.accept_default_router


def _finding(link: LinkSwitches, key: str, address: str) -> Finding:
    return Finding(
        condition="ipv6-ra-route-lost",
        subject=link.link,
        verdict="active",
        severity=SEVERITY,
        message=(
            f"{link.link} has {address} from a router's announcement and the host has no IPv6 "
            f"default route: a link that forwards takes none while {key} is 1; with 2 the next "
            "announcement brings it back"
        ),
        evidence=(
            Evidence("/proc/sys", key, "1"),
            Evidence("/proc/sys", key_of(link.link, "forwarding", 6), "1"),
            Evidence("rtnetlink", "address of an announcement", address),
            Evidence("rtnetlink", "IPv6 default routes", "0"),
        ),
        details={"link": link.link},
    )


def _mitigated(link: LinkSwitches, key: str) -> Finding:
    covered = f"remedy sysctl:{key}"
    return mitigated(
        "ipv6-ra-route-lost",
        link.link,
        by=covered,
        message=f"{link.link} forwards and listens to routers: {covered} is 2",
        link=link.link,
    )
