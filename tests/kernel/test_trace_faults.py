"""Faults as a stranger meets them: the trace alone names the cause, the rule and the cure.

Those that are a drop's reason and no more are in ``test_trace_drops.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from tracing import Line, trace

from remedies.lab import scenarios
from remedies.lab.world import Options, World


class Told(NamedTuple):
    """What a trace has to say of a scenario's fault."""

    scenario: str
    condition: str
    cause: str
    cure: str
    packet: str = ""
    """What is followed; empty: everything is heard."""


FAULTS = (
    Told("stale-flow", "stale-flow", "dnat to 172.17.0.2", "conntrack -D -p udp"),
    Told("snat-departed", "stale-flow", "no address of this host", "conntrack -D -p udp"),
    Told("notrack-breaks-nat", "notrack-breaks-nat", "notrack",
         "out of 'udp dport 5060 counter notrack"),
    Told("bridge-netfilter-missing", "bridge-netfilter-missing", "past NAT",
         "net.bridge.bridge-nf-call-iptables is 0"),
    Told("docker-direct-routing-drop", "docker-direct-routing-drop",
         'ip daddr 172.17.0.2 iifname != "docker0" counter drop',
         "trusted_host_interfaces=eth0"),
    Told("forward-policy-drop", "forward-policy-drop", "policy drop", "iifname docker0 accept"),
    Told("published-but-refused", "published-but-refused", "nft inet firewalld filter_FORWARD_dnat",
         "firewall-cmd --zone=", "udp to 10.21.17.99:56789"),
    Told("idle-timeout", "idle-timeout", "has forgotten",
         "sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established=7440"),
    Told("udp-idle", "idle-timeout", "had no flow any more", "conntrack -D -p udp"),
    Told("helper-missing", "helper-missing", "FTP in active mode", "--helper ftp"),
    Told("accept-queue-overflow", "accept-queue-overflow", "the limit is", "backlog"),
    Told("conntrack-pressure", "conntrack-pressure", "flows are in use", "flow-advice"),
    Told("mixed-backends", "mixed-backends", "(iptables-legacy ip filter FORWARD)",
         "iptables-legacy -t filter -D FORWARD -i docker0 -o eth0 -j DROP"),
    Told("invalid-drop-harmful", "invalid-drop-harmful", "'ct state invalid counter drop # handle",
         "nft insert rule ip lab_filter forward ip daddr 10.21.17.1 tcp dport 8080 accept"),
    Told("tcp-invalid-reset", "tcp-invalid-reset", "calls this segment INVALID",
         "tcp-be-liberal"),
    Told("mtu-black-hole", "mtu-black-hole", "icmp type destination-unreachable",
         "established,related accept"),
    Told("snat-port-exhaustion", "snat-port-exhaustion", "NAT found no source port",
         "--random-fully"),
    Told("subnet-overlap", "subnet-overlap", "share", "another subnet"),
    Told("ipv6-ra-route-lost", "ipv6-ra-route-lost", "accept_ra", "with 2 the next announcement"),
    Told("ruleset-wiped", "ruleset-wiped", "no NAT", "restart"),
    Told("local-port-exhaustion", "local-port-exhaustion", "ports", "ip_local_port_range"),
    Told("udp-connected-server", "udp-connected-server", "has connected its socket",
         "bind-advice"),
)  # fmt: skip


def said(summary: Line) -> list[tuple[str, str]]:
    """Return each condition that a summary names, and all that it says of it."""
    drops = [
        (drop["condition"], " ".join((drop["rule"], *drop["about"], drop["fix"])))
        for drop in summary["drops"]
    ]
    events = [(event["condition"], event["message"]) for event in summary["top"]]
    findings = [(finding["condition"], finding["message"]) for finding in summary["findings"]]
    return [(condition, text) for condition, text in (*findings, *events, *drops) if condition]


@pytest.mark.parametrize("told", FAULTS, ids=lambda told: told.scenario)
def test_the_trace_alone_names_cause_rule_and_cure(told: Told) -> None:
    scenario = scenarios.load(told.scenario)
    with World(told.scenario, Options()) as world:
        scenario.build(world)
        with trace(world, *(("--packet", told.packet) if told.packet else ())) as seen:
            assert not scenario.traffic(world).alive
            summary = seen.end()
    named = said(summary)
    assert {condition for condition, _ in named} == {told.condition}
    whole = " ".join(text for _, text in named)
    assert told.cause in whole
    assert told.cure in whole
