"""Rulesets as other programs write them, read back from the kernel through each store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from remedies import netns as namespaces
from remedies.facts import Asking, nat, netfilter
from remedies.model import Host
from remedies.netfilter.rule import PacketRule

RESTORE = {
    ("nft", "ip"): "iptables-nft-restore",
    ("nft", "ip6"): "ip6tables-nft-restore",
    ("legacy", "ip"): "iptables-legacy-restore",
    ("legacy", "ip6"): "ip6tables-legacy-restore",
}
ASKING = Asking(host=Host("", "", "", "", ""), topics=frozenset({"nat-rules"}), timeout=20)

Load = Callable[[str, str], str]


@pytest.fixture
def load(netns: Callable[..., str], run_in: Callable[..., object]) -> Load:
    """Give load(tool, text) -> namespace with that ruleset."""

    def make(tool: str, text: str) -> str:
        ns = netns("nf")
        argv = ["nft", "-f", "-"] if tool == "nft" else [tool]
        run_in(ns, argv, stdin=text)
        return ns

    return make


def facts_of(ns: str) -> tuple[netfilter.Netfilter, nat.Nat]:
    with namespaces.inside(ns):
        first = netfilter.read(ASKING)
        return first, nat.read(ASKING)


def table(name: str, *lines: str) -> str:
    return "\n".join([f"*{name}", *lines, "COMMIT", ""])


def hooks(rules: tuple[PacketRule, ...]) -> dict[str, str]:
    return {rule.hook: rule.owner for rule in rules}


STATE = "-m conntrack --ctstate"
KUBE = table(
    "filter",
    ":KUBE-FORWARD - [0:0]",
    '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
    f"-A KUBE-FORWARD {STATE} INVALID -j DROP",
    "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
    f"-A KUBE-FORWARD {STATE} RELATED,ESTABLISHED -j ACCEPT",
)
UFW = table(
    "filter",
    ":ufw-before-input - [0:0]",
    ":ufw-before-forward - [0:0]",
    ":ufw-before-logging-input - [0:0]",
    "-A INPUT -j ufw-before-logging-input",
    "-A INPUT -j ufw-before-input",
    "-A FORWARD -j ufw-before-forward",
    "-A ufw-before-input -i lo -j ACCEPT",
    f"-A ufw-before-input {STATE} RELATED,ESTABLISHED -j ACCEPT",
    f"-A ufw-before-input {STATE} INVALID -j DROP",
    f"-A ufw-before-forward {STATE} RELATED,ESTABLISHED -j ACCEPT",
)
CALICO = table(
    "filter",
    ":cali-FORWARD - [0:0]",
    ":cali-from-wl-dispatch - [0:0]",
    ":cali-fw-cali1 - [0:0]",
    "-A FORWARD -j cali-FORWARD",
    "-A cali-FORWARD -i cali+ -j cali-from-wl-dispatch",
    "-A cali-from-wl-dispatch -i cali1 -g cali-fw-cali1",
    f"-A cali-fw-cali1 {STATE} INVALID -j DROP",
)
DROPS = {
    "kube-proxy": (KUBE, {"forward": "kube-proxy"}),
    "ufw": (UFW, {"input": "ufw"}),
    "calico workload only": (CALICO, {}),
    "ours": (
        table(
            "mangle",
            ":REMEDY-INVALID - [0:0]",
            "-A INPUT -j REMEDY-INVALID",
            "-A FORWARD -j REMEDY-INVALID",
            f"-A REMEDY-INVALID -p tcp {STATE} INVALID -j DROP",
        ),
        {"input": "remedy", "forward": "remedy"},
    ),
    "anti-ddos guide": (
        table("mangle", f"-A PREROUTING {STATE} INVALID -j DROP"),
        {"input": "", "forward": ""},
    ),
    "state match": (table("filter", "-A INPUT -m state --state INVALID -j DROP"), {"input": ""}),
    "not on loopback": (
        table("filter", f"-A INPUT ! -i lo {STATE} INVALID -j DROP"),
        {"input": ""},
    ),
    "default deny": (
        table(
            "filter",
            ":INPUT DROP [0:0]",
            "-A INPUT -i lo -j ACCEPT",
            f"-A INPUT {STATE} RELATED,ESTABLISHED -j ACCEPT",
            "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT",
        ),
        {"input": ""},
    ),
    "default deny that trusts a bridge": (
        table("filter", ":FORWARD DROP [0:0]", "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT"),
        {},
    ),
    "accepted before": (
        table("filter", "-A INPUT -p tcp -j ACCEPT", f"-A INPUT {STATE} INVALID -j DROP"),
        {},
    ),
    "returned before": (
        table(
            "filter",
            ":MINE - [0:0]",
            "-A INPUT -j MINE",
            "-A MINE -j RETURN",
            f"-A MINE {STATE} INVALID -j DROP",
        ),
        {},
    ),
    "one port": (
        table("filter", f"-A INPUT -p tcp -m tcp --dport 22 {STATE} INVALID -j DROP"),
        {},
    ),
    "one interface": (table("filter", f"-A INPUT -i eth0 {STATE} INVALID -j DROP"), {}),
    "udp only": (table("filter", f"-A INPUT -p udp {STATE} INVALID -j DROP"), {}),
    "limited": (
        table("filter", f"-A INPUT {STATE} INVALID -m limit --limit 5/sec -j DROP"),
        {},
    ),
    "logged only": (table("filter", f"-A INPUT {STATE} INVALID -j LOG"), {}),
    "inverted": (table("filter", "-A INPUT -m conntrack ! --ctstate INVALID -j DROP"), {}),
    "unreached": (
        table(
            "filter",
            ":MINE - [0:0]",
            "-A INPUT -p icmp -j ACCEPT",
            f"-A MINE {STATE} INVALID -j DROP",
        ),
        {},
    ),
}


@pytest.mark.parametrize(("variant", "family"), list(RESTORE))
@pytest.mark.parametrize("case", list(DROPS))
def test_only_effective_invalid_drops_count(
    load: Load, variant: str, family: str, case: str
) -> None:
    text, expected = DROPS[case]
    fact, _ = facts_of(load(RESTORE[variant, family], text))
    assert fact.unread == ()
    assert hooks(fact.drops) == expected
    assert {rule.family for rule in fact.drops} <= {family}
    assert {rule.backend for rule in fact.drops} <= {f"iptables-{variant}"}
    assert fact.iptables == variant


FIREWALLD = """
table inet firewalld {
  chain filter_INPUT {
    type filter hook input priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    jump filter_INPUT_ZONES
    ct state { invalid } drop
    reject with icmpx type admin-prohibited
  }
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ip6 daddr { ::/96, 2002::/24 } reject with icmpv6 type addr-unreachable
    ct state { invalid } drop
    reject with icmpx type admin-prohibited
  }
  chain filter_INPUT_ZONES {
    iifname "eth0" goto filter_IN_public
    goto filter_IN_public
  }
  chain filter_IN_public {
    tcp dport 22 ct state { new, untracked } accept
  }
}
"""
NATIVE = {
    "firewalld": (FIREWALLD, {"input": "firewalld", "forward": "firewalld"}, "inet"),
    "verdict map": (
        """
table inet f {
  chain in { type filter hook input priority 0; policy drop;
    ct state vmap { established : accept, related : accept, invalid : drop }
    tcp dport 22 accept
  }
}""",
        {"input": ""},
        "inet",
    ),
    "ours": (
        """
table inet remedy_invalid_drop {
  chain input { type filter hook input priority -10; policy accept;
    meta l4proto tcp ct state invalid counter drop
  }
  chain forward { type filter hook forward priority -10; policy accept;
    meta l4proto tcp ct state invalid counter drop
  }
}""",
        {"input": "remedy", "forward": "remedy"},
        "inet",
    ),
    "by ip protocol": (
        """
table ip f {
  chain in { type filter hook input priority 0; policy accept;
    ip protocol tcp ct state invalid drop
  }
}""",
        {"input": ""},
        "ip",
    ),
    "IPv6 only in inet": (
        """
table inet f {
  chain in { type filter hook input priority 0; policy accept;
    meta nfproto ipv6 ct state invalid drop
  }
}""",
        {"input": ""},
        "ip6",
    ),
    "several states": (
        """
table inet f {
  chain in { type filter hook input priority 0; policy accept;
    ct state invalid,untracked drop
  }
}""",
        {"input": ""},
        "inet",
    ),
    "flags": (
        """
table inet f {
  chain in { type filter hook input priority 0; policy accept;
    tcp flags & (fin|syn) == (fin|syn) ct state invalid drop
  }
}""",
        {},
        "inet",
    ),
}


@pytest.mark.parametrize("case", list(NATIVE))
def test_native_invalid_drops(load: Load, case: str) -> None:
    text, expected, family = NATIVE[case]
    fact, _ = facts_of(load("nft", text))
    assert fact.unread == ()
    assert hooks(fact.drops) == expected
    assert {rule.family for rule in fact.drops} <= {family}
    assert fact.iptables == "none"


def test_conntrack_is_unused_where_only_ours_tracks(load: Load) -> None:
    fact, _ = facts_of(load("nft", NATIVE["ours"][0]))
    assert not fact.conntrack_used
    fact, _ = facts_of(load("nft", NATIVE["by ip protocol"][0]))
    assert fact.conntrack_used
    fact, _ = facts_of(load("nft", "table inet f {\n chain some { counter drop\n }\n}"))
    assert not fact.conntrack_used
    assert (fact.nat, fact.nat_uses) == ((), ())


def test_legacy_is_not_loaded_by_asking(load: Load, run_in: Callable[..., object]) -> None:
    ns = load("nft", "table inet f {\n}")
    fact, _ = facts_of(ns)
    assert fact.iptables == "none"
    listed: Any = run_in(ns, ["cat", "/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"])
    assert listed.stdout == ""


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
    assert [use.action for use in fact.nat_uses] == ["dnat", "masquerade"]
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
    assert sorted(pre[2].match.destination_ports) == [(53, 53), (69, 69)]
    assert {rule.match.destination_ports for rule in pre[3:5]} == {((6000, 6000),), ((6001, 6001),)}
    assert {rule.chain for rule in pre[3:5]} == {"sip"}
    tuples = {(rule.match.destinations, rule.match.destination_ports) for rule in pre[5:7]}
    assert tuples == {(("192.0.2.1",), ((7000, 7000),)), (("192.0.2.2",), ((7001, 7003),))}
    assert pre[7].match.destination_local is True
    assert set(pre[7].match.protocols) == {"tcp", "udp"}
    assert pre[8].match.destinations == ("2001:db8::/33",)
    assert pre[8].to == "[fd00::1]:99"
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
  }
}"""
    _, rules = facts_of(load("nft", text))
    assert [rule.match.unmodelled for rule in rules.rules] == [
        ("meta mark",),
        ("numgen",),
        ("payload 2,4,2",),
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
            "ip daddr 192.0.2.10 udp dport { 5060, 5070 } notrack",
            "udp dport 53 notrack",
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
        ["-A PREROUTING -p udp -m multiport --dports 53,123 -j CT --notrack"],
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
