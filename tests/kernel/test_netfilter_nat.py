"""NAT and notrack rules of other programs, read back from the kernel through each store."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any, Optional

import pytest
from rules_of_others import ASKING, RESTORE, facts_of, table

from remedies import catalogue
from remedies.facts import Asking, nat, netfilter
from remedies.facts.gather import read_facts
from remedies.facts.inputs import Inputs
from remedies.fixes import notrack
from remedies.model import Terms
from remedies.namespaces import netns as namespaces
from remedies.netfilter import stores
from remedies.netlink.links import Links
from remedies.rules.rule import ONE_OF_ALL
from remedies.values import replace

Load = Callable[[str, str], str]


DOCKER = table(
    "nat",
    ":DOCKER - [0:0]",
    "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
    "-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER",
    "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
    "-A DOCKER -i docker0 -j RETURN",
    "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
    "-A DOCKER ! -i docker0 -p udp -m udp --dport 5353 -j DNAT --to-destination 172.17.0.2:53",
)


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_docker_nat_rules_with_their_whole_path(load: Load, variant: str) -> None:
    fact, rules = facts_of(load(RESTORE[variant, "ip"], DOCKER))
    assert {(use.action, use.hook) for use in fact.nat_uses} == {
        ("dnat", "prerouting"),
        ("dnat", "output"),
        ("masquerade", "postrouting"),
    }
    assert [line.rpartition(" ")[2] for line in fact.nat] == ["PREROUTING", "OUTPUT", "POSTROUTING"]
    assert fact.conntrack_used
    published = next(rule for rule in rules.rules if "5353" in rule.text)
    assert published.text == (
        "-A DOCKER ! -i docker0 -p udp -m udp --dport 5353 -j DNAT --to-destination 172.17.0.2:53"
    )
    assert (published.owner, published.to) == ("docker", "172.17.0.2:53")
    assert published.match.destination_local is True
    assert published.match.destination_ports == ((5353, 5353),)
    assert [earlier.in_interfaces for earlier in published.after][:1] == [("docker0",)]
    masquerade = next(rule for rule in rules.rules if rule.hook == "postrouting")
    assert masquerade.match.sources == ("172.17.0.0/16",)
    assert masquerade.match.not_out_interfaces == ("docker0",)


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_ipv6_nat_and_multiport(load: Load, variant: str) -> None:
    text = table(
        "nat",
        "-A PREROUTING -d 2001:db8::1/128 -p udp -m multiport --dports 53,5060:5062"
        " -j DNAT --to-destination [fd00::2]:53",
        "-A PREROUTING -p tcp -m tcp ! --dport 1024:65535 -j REDIRECT --to-ports 8080",
        "-A POSTROUTING -s fd00::/64 ! -o eth+ -j MASQUERADE",
        "-A POSTROUTING -o wg0 -j SNAT --to-source 2001:db8::7",
    )
    fact, rules = facts_of(load(RESTORE[variant, "ip6"], text))
    assert {use.action for use in fact.nat_uses} <= {"dnat", "redirect", "masquerade", "snat"}
    dnat, redirect, masquerade, snat = rules.rules
    assert dnat.match.destinations == ("2001:db8::1",)
    assert dnat.match.destination_ports == ((53, 53), (5060, 5062))
    assert dnat.to == "[fd00::2]:53"
    assert redirect.match.destination_ports == ((0, 1023),)
    assert redirect.to == ":8080"
    assert masquerade.match.not_out_interfaces == ("eth*",)
    assert (snat.to, snat.match.out_interfaces) == ("2001:db8::7", ("wg0",))


SETS = """
table inet n {
  set lan { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.1.5 } }
  map targets { type inet_service : ipv4_addr; elements = { 53 : 10.0.0.2, 69 : 10.0.0.3 } }
  chain sip { dnat ip to 10.0.0.9
  }
  chain pre {
    type nat hook prerouting priority dstnat; policy accept;
    iifname { "eth0", "ppp*" } udp dport { 53, 5060-5062 } dnat ip to 10.0.0.2
    ip saddr @lan tcp dport != { 22, 80 } redirect to :3128
    dnat ip to udp dport map @targets
    udp dport vmap { 6000 : jump sip, 6001 : goto sip }
    ip daddr . udp dport { 192.0.2.1 . 7000, 192.0.2.2 . 7001-7003 } dnat ip to 10.0.0.4
    fib daddr type local meta l4proto { tcp, udp } th dport 9000 redirect to :9001
    ip6 daddr 2001:db8::/33 udp dport 1234 dnat ip6 to [fd00::1]:99
  }
  chain post {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "eth0" ip saddr != 10.1.0.0/16 masquerade
    ip saddr 172.16.0.0-172.31.255.255 snat ip to 192.0.2.1
  }
}
"""


def test_native_sets_maps_and_jumps_are_keys_of_the_match(load: Load) -> None:
    fact, nat_fact = facts_of(load("nft", SETS))
    assert nat_fact.unread == ()
    pre = [rule for rule in nat_fact.rules if rule.hook == "prerouting"]
    first = pre[0].match
    assert first.in_interfaces in (("eth0", "ppp*"), ("ppp*", "eth0"))
    assert first.destination_ports in (((53, 53), (5060, 5062)), ((5060, 5062), (53, 53)))
    assert first.protocols == ("udp",)
    assert pre[0].to == "10.0.0.2"
    assert set(pre[1].match.sources) == {"10.0.0.0/8", "192.168.1.5"}
    assert pre[1].match.destination_ports == ((0, 21), (23, 79), (81, 65535))
    by_map = {rule.match.destination_ports: rule.to for rule in pre[2:4]}
    assert by_map == {((53, 53),): "10.0.0.2", ((69, 69),): "10.0.0.3"}
    assert {rule.match.destination_ports for rule in pre[4:6]} == {((6000, 6000),), ((6001, 6001),)}
    assert {rule.chain for rule in pre[4:6]} == {"sip"}
    tuples = {(rule.match.destinations, rule.match.destination_ports) for rule in pre[6:8]}
    assert tuples == {(("192.0.2.1",), ((7000, 7000),)), (("192.0.2.2",), ((7001, 7003),))}
    assert pre[8].match.destination_local is True
    assert set(pre[8].match.protocols) == {"tcp", "udp"}
    assert pre[9].match.destinations == ("2001:db8::/33",)
    assert pre[9].to == "[fd00::1]:99"
    post = [rule for rule in nat_fact.rules if rule.hook == "postrouting"]
    assert post[0].match.not_sources == ("10.1.0.0/16",)
    assert post[0].match.out_interfaces == ("eth0",)
    assert post[1].match.sources == ("172.16.0.0/12",)
    assert all(not rule.match.unmodelled for rule in nat_fact.rules)
    assert fact.nat == ("nft inet n pre", "nft inet n post")


def test_what_is_not_modelled_is_named(load: Load) -> None:
    text = """
table ip n {
  chain pre {
    type nat hook prerouting priority dstnat; policy accept;
    meta mark 0x1 udp dport 53 dnat to 10.0.0.2
    numgen random mod 2 0 udp dport 53 redirect to :54
    udp length 100 redirect to :55
    udp dport 56 numgen random mod 2 vmap { 0 : goto one, 1 : goto one }
    udp dport 57 numgen inc mod 3 vmap { 0 : goto one, 2 : goto one }
  }
  chain one {
    udp dport 56-57 redirect to :58
  }
}"""
    _, rules = facts_of(load("nft", text))
    assert [rule.match.unmodelled for rule in rules.rules] == [
        ("meta mark & 0xffffffff == 0x1",),
        ("numgen",),
        ("payload 2,4,2",),
        *[(ONE_OF_ALL,)] * 2,
        *[("numgen",)] * 2,
    ]


NOTRACK = {
    "nft": (
        "nft",
        """
table inet mine {
  chain pre { type filter hook prerouting priority raw; policy accept;
    ip daddr 192.0.2.10 udp dport { 5060, 5070 } notrack
    jump deeper
  }
  chain deeper { udp dport 53 counter notrack
  }
  chain late { type filter hook prerouting priority 0; policy accept;
    udp dport 1 notrack
  }
}""",
        [
            "ip daddr 192.0.2.10 udp dport { 5060, 5070 } notrack # handle 5",
            "udp dport 53 counter notrack # handle 7",
        ],
    ),
    "iptables-nft": (
        "iptables-nft-restore",
        table("raw", "-A OUTPUT -s 192.0.2.10/32 -p udp -m udp --sport 5060 -j CT --notrack"),
        ["-A OUTPUT -s 192.0.2.10/32 -p udp -m udp --sport 5060 -j CT --notrack"],
    ),
    "iptables-legacy": (
        "iptables-legacy-restore",
        table("raw", "-A PREROUTING -p udp -m multiport --dports 53,123 -j NOTRACK"),
        ["-A PREROUTING -p udp -m multiport --dports 53,123 -j NOTRACK"],
    ),
    "by an interface that the hook has not got": (
        "nft",
        """
table inet fw4 {
  chain out { type filter hook output priority raw; policy accept;
    iifname "lo" jump zone
    iifname != "lo" udp dport 1 notrack
  }
  chain pre { type filter hook prerouting priority raw; policy accept;
    oifname "lo" notrack
    iifname "lo" jump zone
  }
  chain zone { udp dport 53 notrack
  }
}""",
        ['iifname != "lo" udp dport 1 notrack # handle 5', "udp dport 53 notrack # handle 8"],
    ),
    "zone, not notrack": (
        "iptables-nft-restore",
        table("raw", "-A PREROUTING -p udp -m udp --dport 53 -j CT --zone 3"),
        [],
    ),
}


@pytest.mark.parametrize("case", list(NOTRACK))
def test_notrack_rules(load: Load, case: str) -> None:
    tool, text, expected = NOTRACK[case]
    fact, _ = facts_of(load(tool, text))
    assert fact.unread_notracks == ()
    assert [rule.text for rule in fact.notracks] == expected
    assert nat.read(Asking(host=ASKING.host)).asked is False


def test_legacy_is_not_loaded_by_asking(load: Load, run_in: Callable[..., object]) -> None:
    ns = load("nft", "table inet f {\n}")
    fact, _ = facts_of(ns)
    assert fact.iptables == "none"
    listed: Any = run_in(ns, ["cat", "/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"])
    assert listed.stdout == ""


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


MARKED = """
table inet one {{
  chain set-mark {{ meta mark set meta mark | 0x2000; }}
  chain other-mark {{ meta mark set meta mark | 0x1; }}
  chain copied {{ meta mark set ct mark; }}
  chain pre {{ type nat hook prerouting priority dstnat; {}
  }}
  chain post {{ type nat hook postrouting priority srcnat; {}
  }}
}}
"""
MASQUERADE = "meta mark & 0x2000 == 0x2000 masquerade"


@pytest.mark.parametrize(
    ("first", "then", "families"),
    [
        # netavark's own, where no network has IPv6
        ("ip saddr 10.88.0.0/16 tcp dport 80 jump set-mark", MASQUERADE, {"ip"}),
        ("ip6 saddr fd00::/64 tcp dport 80 jump set-mark", MASQUERADE, {"ip6"}),
        ("tcp dport 80 jump set-mark", MASQUERADE, {"inet"}),
        ("meta nfproto ipv4 jump set-mark", "meta mark & 0x2000 == 0 return; masquerade", {"ip"}),
        ("ip protocol tcp jump other-mark", MASQUERADE, {"inet"}),  # whoever marks them
        ("ip protocol tcp jump other-mark", "meta mark != 1 return; masquerade", {"ip"}),
        ("ip protocol tcp jump copied", MASQUERADE, {"ip"}),
        ("ip protocol tcp jump set-mark", "meta mark != 0x2000 masquerade", {"inet"}),
        ("", "meta nfproto ipv6 return; masquerade", {"ip"}),
        ("", "meta nfproto ipv4 tcp dport 1 return; masquerade", {"inet"}),
    ],
)
def test_of_an_inet_table_the_ip_versions_that_reach_nat(
    load: Load, first: str, then: str, families: set[str]
) -> None:
    fact, _ = facts_of(load("nft", MARKED.format(first, then)))
    assert {use.family for use in fact.nat_uses} == families
