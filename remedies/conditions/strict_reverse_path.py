"""Packets are dropped because answers to them would leave by another link.

What it detects
    Packets to this host, or to a container network behind it, that the reverse path filter dropped
    while scan watched: it is strict (``rp_filter`` 1) on the link they came by, and the way back to
    their source is by another link, which is no container network's.

Why it matters
    A host with two uplinks, a floating address or a full-tunnel VPN receives on one link what it
    answers on another one. With the strict filter the packets are dropped before the firewall sees
    them: tcpdump shows them coming, and no program does.

Evidence
    ``proven``: the kernel's reason for each packet (IP_RPFILTER) with the link it came by, and the
    way back as the routing tables have it. Where drops cannot be heard: ``active`` if this host has
    more than one way out and the counter moved (TcpExt: IPReversePathFilter).

False positives
    Forged sources that come in by an uplink: one of a container network's addresses is not
    reported, and one without any way back is not. A single packet is not reported.

References
    RFC 3704, 2.2 and 2.3; ip-sysctl.rst of the kernel: rp_filter, src_valid_mark;
    fib_validate_source() in net/ipv4/fib_frontend.c; wg-quick(8), Table; cilium/cilium#13130,
    aws/amazon-vpc-cni-k8s#75
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.drop_signs import drops_of, evidence
from remedies.facts.drops import Drops
from remedies.facts.returns import Returns, ReturnWay
from remedies.facts.routes import Routes
from remedies.facts.switches import Switches, key_of
from remedies.facts.sysctl import Sysctl
from remedies.model import Evidence, Finding, Severity, mitigated
from remedies.netlink.links import Links
from remedies.rules.prefixes import contains

TITLE = "The strict reverse path filter drops packets that are answered by another link"
SYMPTOM = "packets arrive on the second link (tcpdump shows them) and no program gets them"
SEVERITY: Severity = "high"
AREA = "forwarding"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SC-7")
NEEDS = (Drops, Returns, Links, Routes, Switches, Sysctl, Counters)
PARAMS: Mapping[str, object] = {}

SWITCH = "rp_filter"
ALL = "net.ipv4.conf.all.rp_filter"
MARKED = "net.ipv4.conf.all.src_valid_mark"
_STRICT = 1
_SHOWN = 3
_LEAST = 2


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each link whose packets are dropped. Raises Unreadable."""
    if not facts.get(Drops).listened:
        return _counted(facts)
    drops_of("strict-reverse-path", facts)
    by_link: dict[str, list[ReturnWay]] = {}
    for each in facts.get(Returns).found:
        if _answered(facts, each):
            by_link.setdefault(each.drop.link, []).append(each)
    found = [
        _finding(facts, link, ways)
        for link, ways in by_link.items()
        if sum(way.drop.count for way in ways) >= _LEAST
    ]
    return (*found, *(_mitigated(link) for link in _ours(facts) if link not in by_link))


def _answered(facts: Facts, way: ReturnWay) -> bool:
    """Tell whether the packet was for us or a container, and an answer would leave elsewhere."""
    links, to = facts.get(Links), way.drop.way.destination
    networks = links.networks()
    if not way.link or way.link in (way.drop.link, *(network.link for network in networks)):
        return False
    ours = any(item.address == to for item in links.addresses)
    return ours or any(contains(network.subnet, to) for network in networks)


def _finding(facts: Facts, link: str, ways: list[ReturnWay]) -> Finding:
    first, count = ways[0], sum(way.drop.count for way in ways)
    mark = next((way.mark for way in ways if way.mark), 0)
    value = facts.get(Sysctl).get(ALL)
    own = facts.get(Switches).of(link)
    strict = key_of(link, SWITCH) if own is not None and own.rp_filter == _STRICT else ALL
    return Finding(
        condition="strict-reverse-path",
        subject=link,
        verdict="proven",
        severity=SEVERITY,
        message=(
            f"{count} packets that came by {link} were dropped, the most from "
            f"{first.drop.way.source} to {first.drop.way.destination}: answers leave by "
            f"{first.link}, and {strict} is 1 (strict){_of_mark(facts, mark)}"
        ),
        evidence=(
            Evidence("/proc/sys", ALL, value or ""),
            *(
                ()
                if own is None
                else (Evidence("/proc/sys", key_of(link, SWITCH), str(own.rp_filter)),)
            ),
            *(evidence(way.drop) for way in ways[:_SHOWN]),
        ),
        details={"link": link, **({"mark": hex(mark)} if mark else {})},
    )


def _of_mark(facts: Facts, mark: int) -> str:
    """Return what a VPN that routes by marks needs, which keeps the filter strict."""
    if not mark or facts.get(Sysctl).get(MARKED) == "1":
        return ""
    return (
        f"; a routing rule goes by mark {mark:#x} (a VPN's): where its rules mark these packets, "
        f"'sysctl -w {MARKED}=1' lets them in and keeps the filter strict"
    )


def _counted(facts: Facts) -> tuple[Finding, ...]:
    """Return what the counter says where drops are not heard."""
    moved = facts.get(Counters).delta("TcpExt.IPReversePathFilter") or 0
    routes = facts.get(Routes)
    ways = {link for route in routes.defaults if route.family == 4 for link in route.links}
    if moved < _LEAST or (len(ways) < 2 and not routes.policy_rules):
        drops_of("strict-reverse-path", facts)
        return tuple(_mitigated(link) for link in _ours(facts))
    return (
        Finding(
            condition="strict-reverse-path",
            subject="this host",
            verdict="active",
            severity=SEVERITY,
            message=(
                f"the reverse path filter dropped {moved} packets; which ones, and on "
                "which link, is not known here"
            ),
            evidence=(Evidence("/proc/net/netstat", "IPReversePathFilter", f"+{moved}"),),
        ),
    )


def _ours(facts: Facts) -> tuple[str, ...]:
    """Return the links whose filter is loose because of us."""
    return tuple(
        each.link
        for each in facts.get(Switches).links
        if each.rp_filter != _STRICT and f"sysctl:{key_of(each.link, SWITCH)}" in facts.ours
    )


def _mitigated(link: str) -> Finding:
    covered = f"remedy sysctl:{key_of(link, SWITCH)}"
    return mitigated(
        "strict-reverse-path",
        link,
        by=covered,
        message=f"packets that come by {link} may be answered by another link: {covered} is 2",
        link=link,
    )
