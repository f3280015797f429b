"""This host does NAT for a container network and does not forward its packets.

What it detects
    A network behind a bridge with something plugged in, NAT rules of its IP version, and forwarding
    that is off: ``net.ipv4.ip_forward`` (or ``net.ipv4.conf.LINK.forwarding`` of the bridge or of
    the link with the default route), ``net.ipv6.conf.all.forwarding``.

Why it matters
    A packet that is not for the host itself is dropped before the firewall sees it. Containers
    reach their host and nothing beyond it, and published ports do not answer. Docker switches
    forwarding on when it starts; a hardening script or a line of sysctl.d that is loaded later
    switches it off again.

Evidence
    ``exposed``: the settings, and the line of sysctl.d that sets them at boot. ``active``: the host
    counted packets to others' addresses meanwhile (Ip: InAddrErrors). ``proven``: the kernel
    dropped packets of that network for this reason (IP_INADDRERRORS; in ip6_forward() for IPv6).

False positives
    A network that is meant to reach its host alone and for which somebody wrote NAT rules all the
    same. A host without NAT rules, or without anything plugged into a bridge, is not reported.

References
    ip-sysctl.rst of the kernel: ip_forward; ip_error() in net/ipv4/route.c, ip6_forward() in
    net/ipv6/ip6_output.c; moby/moby#47966, moby/moby#36151
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.drop_signs import drops_of, evidence
from remedies.facts.drops import Drops, SeenDrop
from remedies.facts.netfilter import Netfilter
from remedies.facts.routes import Routes
from remedies.facts.switches import FORWARDING, Switches, key_of
from remedies.facts.sysctl import Sysctl
from remedies.model import Evidence, Finding, Severity, mitigated
from remedies.netlink.links import BridgeNetwork, Links
from remedies.rules.prefixes import contains

TITLE = "Forwarding is off on a host that does NAT for containers"
SYMPTOM = "containers reach their host and nothing beyond it"
SEVERITY: Severity = "high"
AREA = "forwarding"
CONTROLS = ("NIST-800-53 CM-6",)
NEEDS = (Netfilter, Links, Routes, Sysctl, Switches, Counters, Drops)
PARAMS: Mapping[str, object] = {}

SWITCH = "forwarding"
"""Of an interface: what the fix sets."""
_RULES = {4: ("ip", "inet"), 6: ("ip6", "inet")}
_SHOWN = 3


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each container network that is not forwarded. Raises Unreadable."""
    families = {use.family for use in facts.get(Netfilter).nat_uses}
    found = []
    for network in facts.get(Links).networks():
        if families.isdisjoint(_RULES[network.family]):
            continue
        off, ours = tuple(_off(facts, network)), _ours(facts, network)
        if off:
            found.append(_finding(facts, network, off, ours))
        elif ours:
            found.append(_mitigated(network, ours))
    return tuple(found)


def _links_of(facts: Facts, network: BridgeNetwork) -> tuple[str, ...]:
    """Return the links that have to forward: the bridge, and those with a default route."""
    ways = [
        link
        for route in facts.get(Routes).defaults
        if route.family == network.family
        for link in route.links
    ]
    return tuple(dict.fromkeys((network.link, *ways)))


def _ours(facts: Facts, network: BridgeNetwork) -> tuple[str, ...]:
    """Return the links that forward because of us."""
    return tuple(
        link
        for link in _links_of(facts, network)
        if network.family == 4 and f"sysctl:{key_of(link, SWITCH)}" in facts.ours
    )


def _off(facts: Facts, network: BridgeNetwork) -> Iterable[str]:
    """Yield the links that have to forward and do not."""
    if network.family == 6:  # one switch for all; that of a link says whether it is a router there
        if facts.get(Sysctl).get(FORWARDING[6]) == "0":
            yield network.link
        return
    switches = facts.get(Switches)
    for link in _links_of(facts, network):
        each = switches.of(link)
        if each is not None and not each.forwarding:
            yield link


def _finding(
    facts: Facts, network: BridgeNetwork, off: tuple[str, ...], ours: tuple[str, ...]
) -> Finding:
    seen = _seen(facts, network)
    counted = facts.get(Counters).delta("Ip.InAddrErrors") or 0 if network.family == 4 else 0
    main = facts.get(Sysctl).get(FORWARDING[network.family]) == "0"
    keys = [FORWARDING[network.family]] if main else [key_of(link, SWITCH) for link in off]
    set_by = facts.get(Switches).set_by if main and network.family == 4 else ""
    count = sum(drop.count for drop in seen)
    return Finding(
        condition="ip-forward-off",
        subject=network.link,
        verdict="proven" if seen else "active" if counted else "exposed",
        severity=SEVERITY,
        message=(
            f"{f'{count} packets of' if seen else 'packets of'} {network.subnet} on {network.link} "
            f"{'were' if seen else 'are'} dropped instead of forwarded: {' and '.join(keys)} "
            f"{'are' if len(keys) > 1 else 'is'} 0{f', set by {set_by}' if set_by else ''}"
            f"{_advice(network)}"
        ),
        evidence=(
            *(Evidence("/proc/sys", key, "0") for key in keys),
            *((Evidence("set by", keys[0], set_by),) if set_by else ()),
            *((Evidence("/proc/net/snmp", "InAddrErrors", f"+{counted}"),) if counted else ()),
            *(evidence(drop) for drop in seen[:_SHOWN]),
        ),
        details={
            "family": str(network.family),
            "links": " ".join(dict.fromkeys((*off, *ours))),
        },
    )


def _advice(network: BridgeNetwork) -> str:
    """Return what a person should do about IPv6, where forwarding ends accepting of routers."""
    if network.family == 4:
        return ""
    return (
        "; where the host learns its own default route from routers, set accept_ra to 2 on that "
        "link first: sysctl -w net.ipv6.conf.LINK.accept_ra=2 net.ipv6.conf.all.forwarding=1"
    )


def _seen(facts: Facts, network: BridgeNetwork) -> tuple[SeenDrop, ...]:
    """Return the drops of packets from or to a network; none where drops cannot be heard."""
    if not facts.get(Drops).listened:
        return ()
    return tuple(
        drop
        for drop in drops_of("ip-forward-off", facts)
        if drop.way.source != network.subnet.partition("/")[0]
        and any(contains(network.subnet, end) for end in (drop.way.source, drop.way.destination))
    )


def _mitigated(network: BridgeNetwork, ours: tuple[str, ...]) -> Finding:
    covered = f"remedy sysctl:{key_of(ours[0], SWITCH)}"
    return mitigated(
        "ip-forward-off",
        network.link,
        by=covered,
        message=f"packets of {network.subnet} on {network.link} are forwarded: {covered} is 1",
        family="4",
        links=" ".join(ours),
    )
