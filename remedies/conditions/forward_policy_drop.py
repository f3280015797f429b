"""A forward chain drops by policy what a container network begins, and no rule is about it.

What it detects
    Packets that begin a connection from a network behind a bridge to somewhere beyond this host,
    which the policy of a forward chain dropped while scan watched, and in that chain no rule that
    accepts other new packets of that network.

Why it matters
    Docker, when it switches forwarding on, sets the policy of the FORWARD chain to DROP and accepts
    what its own bridges send. Networks of others on the same host (libvirt, LXD, Incus, Podman, a
    second Docker) have no rule there and lose the world outside the host.

Evidence
    ``proven``: the kernel's reason for each packet (NETFILTER_DROP) with what conntrack held of it
    (new), and the chain whose policy takes such a packet. Without BTF or CAP_BPF it is unknown.

False positives
    A firewall that lets no container begin anything, by policy alone. One that has a rule for the
    network (web traffic may leave, all else not) is not reported, nor what is dropped on its way
    into a container network or from one to another.

References
    Documentation of Docker: packet filtering and firewalls; moby/moby#39439, moby/moby#50566,
    canonical/lxd#3387; nf_hook_slow() in net/netfilter/core.c
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
from remedies.printable import both_ends
from remedies.rules.prefixes import contains
from remedies.rules.rule import PacketRule

TITLE = "A forward chain's policy drops new connections of a container network"
SYMPTOM = "virtual machines or containers lost the network when Docker was started beside them"
SEVERITY: Severity = "high"
AREA = "forwarding"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SC-7")
NEEDS = (Drops, Droppers, Links)
PARAMS: Mapping[str, object] = {}

_POLICY = "policy drop"
_SHOWN = 3


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each network and chain. Raises Unreadable without the drops."""
    new = drops_of("forward-policy-drop", facts)
    networks = facts.get(Links).networks()
    found: dict[tuple[BridgeNetwork, PacketRule], list[RuledDrop]] = {}
    for each in facts.get(Droppers).found if new else ():
        network = _from(networks, each)
        if each.drop in new and network is not None and each.rule is not None and not each.beside:
            found.setdefault((network, each.rule), []).append(each)
    return tuple(_finding(network, rule, drops) for (network, rule), drops in found.items())


def _from(networks: tuple[BridgeNetwork, ...], each: RuledDrop) -> Optional[BridgeNetwork]:
    """Return the network whose packet a forward chain's policy dropped on its way out."""
    way, rule = each.drop.way, each.rule
    if rule is None or rule.hook != "forward" or rule.text != _POLICY:
        return None
    if any(contains(network.subnet, way.destination) for network in networks):
        return None
    return next((n for n in networks if contains(n.subnet, way.source)), None)


def _finding(network: BridgeNetwork, rule: PacketRule, drops: list[RuledDrop]) -> Finding:
    count, first = sum(each.drop.count for each in drops), drops[0].drop
    return Finding(
        condition="forward-policy-drop",
        subject=f"{network.link} by {rule.place}",
        verdict="proven",
        severity=SEVERITY,
        message=(
            f"{count} packets that {network.subnet} on {network.link} began were dropped by the "
            f"policy of {rule.place}, the most of {first.protocol} {both_ends(*first.way.parts)}, "
            f"and no rule there is about that network; to let it out: {_commands(network, rule)}"
        ),
        evidence=(
            *(evidence(each.drop) for each in drops[:_SHOWN]),
            Evidence(rule.place, rule.hook, rule.text, rule.owner),
        ),
        details={"link": network.link},
    )


def _commands(network: BridgeNetwork, rule: PacketRule) -> str:
    """Return the commands that accept what the network begins, and its answers, in that chain."""
    if rule.backend == "nft":
        chain = f"nft insert rule {rule.family} {rule.table} {rule.chain}"
        return (
            f"{chain} iifname {network.link} accept; "
            f"{chain} oifname {network.link} ct state established,related accept"
        )
    tool = ("iptables" if network.family == 4 else "ip6tables") + (
        "-legacy" if rule.backend == "iptables-legacy" else ""
    )
    return (
        f"{tool} -I {rule.chain} -i {network.link} -j ACCEPT; {tool} -I {rule.chain} "
        f"-o {network.link} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    )
