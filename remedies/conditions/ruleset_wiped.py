"""The NAT rules of a container network are gone: somebody flushed the ruleset.

What it detects
    A network behind a bridge with something plugged in, no rule that would turn the source of what
    it sends out, and one of two things that say that there was one: a flow of it that NAT turned
    before, or Docker, which runs here, is not told to leave iptables alone, and has no NAT rule. If
    so, kube-proxy without its rules is named, too.

Why it matters
    ``nft flush ruleset`` (nftables.service at each start and reload), ``iptables -F``, the reload
    of a firewall or a restore takes the rules of Docker, Podman, libvirt and CNI plugins with it.
    Containers run on, and lose everything beyond their host: packets leave by addresses that nobody
    outside knows. Nobody makes these rules again before the program that owns them is restarted.

Evidence
    ``exposed``: what is missing, and the flow or the program. ``proven``: packets of that network
    that left by its own addresses while scan watched and that nobody answered.

False positives
    ``"iptables": false`` in daemon.json, bridges that are routed by design, and NAT by rules of
    somebody's own: not reported. A person who has just switched a network from NAT to routing is
    told so until its old flows have ended. Rules in filter alone are another condition:
    forward-policy-drop. kube-proxy in a network without bridges is not looked for; in iptables mode
    it finds that its rules are gone and makes them again within half a minute.

References
    Documentation of Docker: packet filtering and firewalls; podman-network-reload(1);
    moby/moby#16816, docker/roadmap#867, firewalld/firewalld#503; nf_ct_netns_put() in
    net/netfilter/nf_conntrack_proto.c
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts.wiped import BareNetwork, BarePacket, LostRules, Wiped
from remedies.model import Evidence, Finding, Severity
from remedies.netlink.flow import Flow
from remedies.printable import at, both_ends

TITLE = "The NAT rules of a container network are gone"
SYMPTOM = "after a firewall was reloaded no container reaches anything beyond its host"
SEVERITY: Severity = "high"
AREA = "NAT"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SC-7")
NEEDS = (Wiped,)
PARAMS: Mapping[str, object] = {}

_SHOWN = 3
_OWNERS = (
    (("podman", "cni-podman"), "podman network reload --all (containers run on)"),
    (("virbr",), "systemctl reload libvirtd, or virtnetworkd where that runs (machines run on)"),
    (("incusbr",), "systemctl restart incus (instances run on)"),
)
"""How the names of bridges begin, and what has their owner make its rules again."""


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each network, and for each program that has lost its rules beside."""
    wiped = facts.get(Wiped)
    told = {bare.program for bare in wiped.networks}
    return (
        *(_network(wiped, bare) for bare in wiped.networks),
        *(_program(wiped, lost) for lost in wiped.lost if lost.program not in told),
    )


def _network(wiped: Wiped, bare: BareNetwork) -> Finding:
    network, heard, turned = bare.network, bare.heard, bare.turned
    lost = [each for each in wiped.lost if each.program == bare.program]
    said = [_packets(bare)]
    said += [
        f"{each.program} ({each.seen}) runs and none of its NAT rules is there" for each in lost
    ]
    if turned is not None:
        ends, given = both_ends(*turned.original.parts), turned.reply.destination
        said.append(f"{turned.protocol} {ends} was given {given} by a rule that is gone")
    return Finding(
        condition="ruleset-wiped",
        subject=f"{network.link} {network.subnet}",
        verdict="proven" if heard else "exposed",
        severity=SEVERITY,
        message=f"{', and '.join(said)}; {_cure(wiped, bare.program, network.link)}",
        evidence=(*map(_missing, lost), *_flow(turned), *map(_left, heard[:_SHOWN])),
        details={"link": network.link},
    )


def _packets(bare: BareNetwork) -> str:
    """Return what becomes of a network's packets, or became of those that were heard."""
    where = f"{bare.network.subnet} on {bare.network.link}"
    if not bare.heard:
        return f"packets of {where} leave by their own addresses: no NAT rule is left for them"
    first, count = bare.heard[0], sum(packet.count for packet in bare.heard)
    return (
        f"{count} packets of {where} left by their own addresses and were not answered, the most "
        f"of {first.protocol} {both_ends(*first.way.parts)}: no NAT rule is left for them"
    )


def _missing(lost: LostRules) -> Evidence:
    return Evidence("rules", "not there", lost.missing, f"{lost.program}, {lost.seen}")


def _flow(turned: Optional[Flow]) -> tuple[Evidence, ...]:
    """Return the flow that NAT turned before, as far as there is one."""
    if turned is None:
        return ()
    ends = f"{turned.protocol} {both_ends(*turned.original.parts)}"
    reply = at(turned.reply.destination, turned.reply.destination_port)
    return (Evidence("conntrack", "turned before", ends, f"the reply goes to {reply}"),)


def _left(packet: BarePacket) -> Evidence:
    ends = f"{packet.protocol} {both_ends(*packet.way.parts)}"
    note = f"{packet.count} times on {packet.link}, no answer"
    return Evidence("packet socket", "not turned", ends, note)


def _program(wiped: Wiped, lost: LostRules) -> Finding:
    return Finding(
        condition="ruleset-wiped",
        subject=lost.program,
        verdict="exposed",
        severity=SEVERITY,
        message=(
            f"{lost.program} ({lost.seen}) runs and none of its NAT rules is there (no "
            f"{lost.missing}); {_cure(wiped, lost.program, '')}"
        ),
        evidence=(_missing(lost),),
    )


def _cure(wiped: Wiped, program: str, link: str) -> str:
    """Return the command that has the owner make its rules again, and what keeps them there."""
    again = "restart the program that made the rules"
    if program == "Docker" and wiped.firewalld:
        again = "firewall-cmd --reload: Docker makes its rules again then, and containers run on"
    elif program == "Docker":
        again = "systemctl restart docker (it stops containers unless live-restore is on)"
    elif program == "kube-proxy":
        again = (
            "kubectl -n kube-system delete pod -l k8s-app=kube-proxy --field-selector "
            "spec.nodeName=NODE (services of this node are set up again)"
        )
    else:
        again = next((how for names, how in _OWNERS if link.startswith(names)), again)
    keep = (
        f"; {wiped.flusher} takes them away again: let it delete its own tables alone"
        if wiped.flusher
        else ""
    )
    return f"to have them made again: {again}{keep}"
