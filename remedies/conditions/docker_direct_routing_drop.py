"""Docker drops what is sent to a container's own address from outside.

What it detects
    Packets to an address in a container network that came by another link than its bridge, and
    that a rule of the form Docker writes (``-d CONTAINER ! -i BRIDGE -j DROP``, before connection
    tracking) dropped while scan watched.

Why it matters
    Since Docker 28 a container can be reached from outside by its published ports alone. Routers
    and VPN peers that have a route to the bridge's subnet still reach the bridge's address, and no
    container behind it. An accept elsewhere does not help: the rule stands before all of them.

Evidence
    ``proven``: the kernel's reason for each packet (NETFILTER_DROP, nothing tracked yet), the link
    it came by, and the rule. Without BTF or CAP_BPF it is unknown.

False positives
    That is protection, and meant to be: who sends may have no business there. Nothing is changed;
    the finding says what lets this one link in, and is silent about a single packet.

References
    Documentation of Docker: packet filtering and firewalls, direct routing; moby/moby#49498,
    moby/moby#51015; nf_hook_slow() in net/netfilter/core.c
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts.drop_signs import drops_of, evidence
from remedies.facts.droppers import Droppers, RuledDrop
from remedies.facts.drops import Drops
from remedies.model import Evidence, Finding, Severity
from remedies.netlink.links import BridgeNetwork, Links
from remedies.printable import at
from remedies.rules.prefixes import contains

TITLE = "Docker drops what is sent to a container's own address from outside"
SYMPTOM = "a router or VPN peer reaches the container network's bridge and no container (Docker 28)"
SEVERITY: Severity = "medium"
AREA = "forwarding"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SC-7")
NEEDS = (Drops, Droppers, Links)
PARAMS: Mapping[str, object] = {}

_LEAST = 2
_SHOWN = 3


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each container and link. Raises Unreadable without the drops."""
    untracked = drops_of("docker-direct-routing-drop", facts)
    found: dict[tuple[str, str], tuple[BridgeNetwork, list[RuledDrop]]] = {}
    for each in facts.get(Droppers).found if untracked else ():
        network = _into(facts.get(Links).networks(), each)
        if each.drop in untracked and network is not None:
            key = each.drop.way.destination, each.drop.link
            found.setdefault(key, (network, []))[1].append(each)
    return tuple(
        _finding(network, drops)
        for network, drops in found.values()
        if sum(each.drop.count for each in drops) >= _LEAST
    )


def _into(networks: tuple[BridgeNetwork, ...], each: RuledDrop) -> Optional[BridgeNetwork]:
    """Return the network that a packet was kept out of by such a rule; None for any other drop."""
    drop, rule = each.drop, each.rule
    if rule is None or rule.hook != "prerouting":
        return None
    network = next((n for n in networks if contains(n.subnet, drop.way.destination)), None)
    if network is None or drop.link == network.link:
        return None
    meant = any(contains(prefix, drop.way.destination) for prefix in rule.match.destinations)
    return network if meant and network.link in rule.match.not_in_interfaces else None


def _finding(network: BridgeNetwork, drops: list[RuledDrop]) -> Finding:
    drop, rule = drops[0].drop, drops[0].rule
    named = "" if rule is None else rule.named
    option = "com.docker.network.bridge.trusted_host_interfaces"
    return Finding(
        condition="docker-direct-routing-drop",
        subject=f"{drop.way.destination} from {drop.link}",
        verdict="proven",
        severity=SEVERITY,
        message=(
            f"{sum(each.drop.count for each in drops)} packets from {drop.way.source} by "
            f"{drop.link} to the container at "
            f"{at(drop.way.destination, drop.way.destination_port)} were dropped by {named}: "
            "publish the port, or, if that link may send to containers directly, create the "
            f"network with '-o {option}={drop.link}'"
        ),
        evidence=(
            *(evidence(each.drop) for each in drops[:_SHOWN]),
            *(() if rule is None else (Evidence(rule.place, rule.hook, rule.text, rule.owner),)),
        ),
        details={"link": network.link},
    )
