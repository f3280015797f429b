"""NAT and notrack rules of other programs, read back from the kernel through each store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rules_of_others import ASKING, RESTORE, facts_of, table

from remedies.facts import Asking, nat
from remedies.rules.rule import ONE_OF_ALL

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
