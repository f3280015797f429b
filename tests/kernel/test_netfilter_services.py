"""NAT of more services than are read one by one: what is read of it, and what it may do."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Optional

import pytest
from rules_of_others import ASKING, facts_of, table

from remedies import catalogue
from remedies.facts import Asking, nat, netfilter
from remedies.facts.gather import read_facts
from remedies.facts.inputs import Inputs
from remedies.fixes import notrack
from remedies.model import Terms
from remedies.namespaces import netns as namespaces
from remedies.netfilter import stores
from remedies.netlink.links import Links
from remedies.values import replace

Load = Callable[[str, str], str]


def _services(count: int, first: str = "") -> str:
    """Return kube-proxy's nftables table with so many services, which share a few endpoints."""
    chains = "".join(
        f"chain endpoint-{name} {{\n meta l4proto tcp dnat to 10.244.0.2:8080\n}}\n"
        f"chain service-{name} {{\n numgen random mod 2 vmap"
        f" {{ 0 : goto endpoint-{name}, 1 : goto endpoint-{name} }}\n}}\n"
        for name in range(20)
    )
    elements = ", ".join(
        f"10.96.{number >> 8}.{number & 255} . tcp . 80 : goto service-{number % 20}"
        for number in range(count)
    )
    return f"""
table ip kube-proxy {{
{chains}
map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict
  elements = {{ {elements} }} }}
chain services {{
  {first} ip daddr . meta l4proto . th dport vmap @service-ips
}}
chain masquerading {{
  meta mark & 0x4000 == 0 return
  masquerade fully-random
}}
chain nat-prerouting {{ type nat hook prerouting priority -100; jump services; }}
chain nat-output {{ type nat hook output priority -100; jump services; }}
chain nat-postrouting {{ type nat hook postrouting priority srcnat; jump masquerading; }}
}}
"""


USES = {("ip", "dnat"), ("ip", "masquerade")}


@pytest.mark.parametrize("first", ["", "meta mark set 1"])
def test_nat_behind_a_map_of_more_services_than_are_followed(load: Load, first: str) -> None:
    ns = load("nft", _services(2100, first))
    with namespaces.inside(ns):
        fact = netfilter.read(Asking(host=ASKING.host, timeout=20))
    assert {(use.family, use.action) for use in fact.nat_uses} == USES
    assert {line.rpartition("-")[2] for line in fact.nat} == {
        "prerouting", "output", "postrouting"
    }  # fmt: skip
    assert fact.unread == fact.nat_unread == ()


def test_a_map_of_services_is_followed(load: Load) -> None:
    fact, rules = facts_of(load("nft", _services(520)))
    assert rules.unread == ()
    assert {(use.family, use.action) for use in fact.nat_uses} == USES
    assert len([rule for rule in rules.rules if rule.hook == "prerouting"]) == 1040


NOTRACK_ONE = """
table ip one {{
chain raw {{ type filter hook prerouting priority raw; {} notrack; }}
}}
"""


@pytest.mark.parametrize(
    ("seen", "ports"),
    [("udp dport 4789", ()), ("tcp dport 81", (81,)), ("tcp dport 40000-50000", None)],
)
def test_of_a_big_map_only_what_a_notrack_rule_may_be_about_is_followed(
    load: Load, seen: str, ports: Optional[tuple[int, ...]]
) -> None:
    services = _services(2100).replace(
        "10.96.0.0 . tcp . 80 :", "10.97.0.0 . tcp . 81 : goto service-1, 10.96.0.0 . tcp . 80 :"
    )
    ns = load("nft", services + NOTRACK_ONE.format(seen))
    with namespaces.inside(ns):
        fact = netfilter.read(ASKING)
        found = nat.read(Asking(host=ASKING.host, known={"netfilter": fact}, timeout=20))
    if ports is None:  # replies of all of them may come there
        assert found.unread
        return
    assert found.unread == ()
    assert {first for rule in found.rules for first, _ in rule.match.destination_ports} == set(
        ports
    )
    assert "masquerade" in {rule.action for rule in found.rules}


def _iptables_services(count: int) -> str:
    """Return kube-proxy's iptables rules for so many services of TCP, each with two endpoints."""
    chains, rules = [], []
    for number in range(count):
        service, to = f"KUBE-SVC-{number}", f"10.96.{number >> 8}.{number & 255}/32"
        chains += [f":{service} - [0:0]"]
        rules += [
            f"-A KUBE-SERVICES -d {to} -p tcp -m tcp --dport 80 -j {service}",
            f"-A {service} -m statistic --mode random --probability 0.5 -j KUBE-SEP-1",
            f"-A {service} -j KUBE-SEP-2",
        ]
    dns = "-A KUBE-SERVICES -d 10.96.99.10/32 -p udp -m udp --dport 53 -j KUBE-SEP-DNS"
    here = "-A KUBE-SERVICES -d 10.96.99.11/32 -p udp -m udp --dport 99 -j KUBE-SVC-HERE"
    first = [":KUBE-SERVICES - [0:0]", ":KUBE-SEP-DNS - [0:0]", ":KUBE-SEP-1 - [0:0]"]
    first += [":KUBE-SVC-HERE - [0:0]", ":KUBE-SEP-HERE - [0:0]"]
    to = "-j DNAT --to-destination 10.244.0.2"
    last = [
        "-A PREROUTING -j KUBE-SERVICES", dns, f"-A KUBE-SEP-DNS -p udp {to}:53", here,
        "-A KUBE-SVC-HERE -m statistic --mode random --probability 0.5 -j KUBE-SEP-HERE",
        "-A KUBE-SVC-HERE -j KUBE-SEP-DNS",
        f"-A KUBE-SEP-HERE -p udp -j DNAT --to-destination {HOST}:5060",
        f"-A KUBE-SEP-1 -p tcp {to}:8080", f"-A KUBE-SEP-2 -p tcp {to}:8080",
    ]  # fmt: skip
    return table("nat", *first, ":KUBE-SEP-2 - [0:0]", *chains, *rules, *last)


HOST = "10.21.17.99"


def refused(port: int) -> bool:
    """Tell whether the guard of notrack refuses a UDP service of this host, by NAT's rule."""
    terms = Terms(params={"protocol": "udp", "ports": [port], "addresses": [HOST]})
    asked = catalogue.topics_of("notrack", terms.params)
    others = read_facts(ASKING.host, (Links, Inputs), topics=asked | {"input-rules"})
    found = nat.read(Asking(ASKING.host, timeout=60, topics=asked, known=dict(others.known)))
    assert found.unread == ()
    reason = notrack.guard(None, replace(others, known={**others.known, "nat": found}), terms)
    assert reason is None or f"{HOST}:5060" in reason
    return reason is not None


@pytest.mark.parametrize("tool", ["nft", "iptables-nft-restore"])
def test_of_thousands_of_services_those_of_udp_are_read(load: Load, tool: str) -> None:
    text = _iptables_services(4_300)
    if tool == "nft":
        dns = "10.96.99.10 . udp . 53 : goto service-dns, 10.96.0.0 . tcp . 80 :"
        dns = f"10.96.99.11 . udp . 99 : goto service-here, {dns}"
        text = (
            _services(10_000)
            .replace("masquerade fully-random", "ip saddr 10.244.0.0/16 masquerade")
            .replace("10.96.0.0 . tcp . 80 :", dns)
            .replace(
                "map service-ips",
                "chain service-dns {\n meta l4proto udp dnat to 10.244.0.2:53\n}\n"
                f"chain end-here {{\n meta l4proto udp dnat to {HOST}:5060\n}}\n"
                "chain service-here {\n numgen random mod 2 vmap"
                " { 0 : goto end-here, 1 : goto service-dns }\n}\nmap service-ips",
            )
        )
    ns = load(tool, text)
    subprocess.run(["ip", "-n", ns, "addr", "add", f"{HOST}/32", "dev", "lo"], check=True)
    with namespaces.inside(ns):
        every = nat.read(Asking(host=ASKING.host, topics=frozenset({nat.TOPIC}), timeout=20))
        assert refused(5060)
        assert tool != "nft" or not refused(5061)
        udp = nat.read(Asking(host=ASKING.host, topics=frozenset({nat.UDP_TOPIC}), timeout=20))
    assert every.unread
    assert udp.unread == ()
    found = {rule.match.destination_ports for rule in udp.rules if rule.action == "dnat"}
    assert found == {((53, 53),), ((99, 99),)}


def test_nat_that_is_not_read_may_rewrite_in_any_way(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "_LEAD_LIMIT", 10)
    fact, _ = facts_of(load("nft", _services(30).replace("masquerade", "accept #")))
    assert fact.nat_unread == ("ip",)
    assert all("service-ips" in reason for reason in fact.unread)
    assert len(fact.unread) == 2
