"""Containers of one bridge cannot use a service whose backend is on the same bridge.

What it detects
    UDP requests of one container that NAT sends on to another one of the same bridge, without an
    answer, while bridged packets pass conntrack by (``net.bridge.bridge-nf-call-iptables`` is 0, or
    br_netfilter is not loaded).

Why it matters
    The backend answers its neighbour directly, by the bridge. Only if bridged packets are shown to
    conntrack is the answer's address translated back; else the client gets it from an address that
    it has not asked, and drops it. DNS in Kubernetes fails on the nodes where CoreDNS runs, and
    works everywhere else.

Evidence
    ``active``: one such flow as conntrack has it, and the switch. ``proven``: several, or one and
    the host told its client meanwhile that there is a shorter way (ICMP redirects sent).

False positives
    A backend that is dead has no answer either; with this switch it could have none. Networks that
    route between containers (Calico, Cilium) have no bridge. The switch alone is not reported:
    behind docker-proxy nobody needs it.

References
    net/bridge/br_netfilter_hooks.c; ip_forward() in net/ipv4/ip_forward.c (redirects);
    kubernetes/kubernetes#21613; kubernetes.io: Network Plugin Requirements
"""

from __future__ import annotations

from collections.abc import Mapping

from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.flows import Flows
from remedies.facts.sysctl import Sysctl
from remedies.model import Evidence, Finding, Severity, mitigated
from remedies.netlink.flow import Flow
from remedies.netlink.links import BridgeNetwork, Links
from remedies.printable import at, both_ends
from remedies.rules.prefixes import contains

TITLE = "Bridged packets bypass conntrack, and a service's backend is on its client's bridge"
SYMPTOM = "pods cannot use a service (DNS) if its backend runs on the same node"
SEVERITY: Severity = "high"
AREA = "forwarding"
CONTROLS = ("NIST-800-53 CM-6",)
NEEDS = (Flows, Links, Sysctl, Counters)
PARAMS: Mapping[str, object] = {}

KEYS = {4: "net.bridge.bridge-nf-call-iptables", 6: "net.bridge.bridge-nf-call-ip6tables"}
_REDIRECTS = {4: "Icmp.OutRedirects", 6: "Icmp6.OutRedirects"}
_ENOUGH = 2
"""Flows: the answer of one may be under way."""
_SHOWN = 3


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return a finding for each bridge with such flows. Raises Unreadable."""
    found = []
    for network in facts.get(Links).networks():
        key = KEYS[network.family]
        switch = facts.get(Sysctl).get(key)
        if switch == "1":
            if f"sysctl:{key}" in facts.ours:
                found.append(_mitigated(network, key))
            continue
        flows = [flow for flow in facts.get(Flows).unreplied if _hairpin(network, flow)]
        if flows:
            found.append(_finding(facts, network, switch, flows))
    return tuple(found)


def _hairpin(network: BridgeNetwork, flow: Flow) -> bool:
    """Tell whether NAT sends a container's request to its neighbour, in the container's name."""
    way, back = flow.original, flow.reply
    own = network.subnet.partition("/")[0]
    return (
        flow.nat
        and back.source != way.destination
        and back.destination == way.source
        and way.source not in (own, back.source)
        and back.source != own
        and contains(network.subnet, way.source)
        and contains(network.subnet, back.source)
    )


def _finding(
    facts: Facts, network: BridgeNetwork, switch: str | None, flows: list[Flow]
) -> Finding:
    key, counter = KEYS[network.family], _REDIRECTS[network.family]
    told = facts.get(Counters).delta(counter) or 0
    first = flows[0]
    lacks = f"{key} is {switch}" if switch is not None else f"{key} is not there (br_netfilter)"
    do = f"sysctl -w {key}=1" if switch is not None else f"modprobe br_netfilter; sysctl -w {key}=1"
    return Finding(
        condition="bridge-netfilter-missing",
        subject=network.link,
        verdict="proven" if told or len(flows) >= _ENOUGH else "active",
        severity=SEVERITY,
        message=(
            f"{first.protocol} {both_ends(*first.original.parts)} is sent on to "
            f"{at(first.reply.source, first.reply.source_port)} on the same bridge "
            f"({network.link}) and has no answer: {lacks}, so the answer keeps the backend's "
            f"address ({len(flows)} such flows); {do}"
        ),
        evidence=(
            Evidence("/proc/sys", key, "no such key" if switch is None else switch),
            *((Evidence("/proc/net", counter, f"+{told}"),) if told else ()),
            *(
                Evidence(
                    "conntrack",
                    "no reply",
                    both_ends(*flow.original.parts),
                    f"sent on to {at(flow.reply.source, flow.reply.source_port)}",
                )
                for flow in flows[:_SHOWN]
            ),
        ),
        details={"key": key, "link": network.link},
    )


def _mitigated(network: BridgeNetwork, key: str) -> Finding:
    covered = f"remedy sysctl:{key}"
    return mitigated(
        "bridge-netfilter-missing",
        network.link,
        by=covered,
        message=f"conntrack sees what is bridged on {network.link}: {covered} is 1",
        key=key,
        link=network.link,
    )
