"""Which INVALID drops of other programs count, read back from the kernel through each store."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rules_of_others import RESTORE, facts_of, table
from run_in import RunIn

from remedies.rules.rule import PacketRule

Load = Callable[[str, str], str]


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
    "firewalld between its jumps, the admin in DOCKER-USER": (
        table(
            "filter",
            ":DOCKER-USER - [0:0]",
            ":INPUT_direct - [0:0]",
            ":INPUT_ZONES - [0:0]",
            f"-A INPUT {STATE} RELATED,ESTABLISHED -j ACCEPT",
            "-A INPUT -j INPUT_direct",
            "-A INPUT -j INPUT_ZONES",
            f"-A INPUT {STATE} INVALID -j DROP",
            "-A INPUT -j REJECT",
            "-A FORWARD -j DOCKER-USER",
            f"-A DOCKER-USER {STATE} INVALID -j DROP",
        ),
        {"input": "firewalld", "forward": "the admin"},
    ),
    "incus by its comment, another's without": (
        table(
            "filter",
            f"-A INPUT {STATE} INVALID "
            '-m comment --comment "generated for Incus network n" -j DROP',
            f"-A FORWARD {STATE} INVALID -j DROP",
        ),
        {"input": "incus", "forward": ""},
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
    assert {rule.version or rule.family for rule in fact.drops} <= {family}
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
    assert {rule.version or rule.family for rule in fact.drops} <= {family}
    assert fact.iptables == "none"


def test_conntrack_is_unused_where_only_ours_tracks(load: Load) -> None:
    fact, _ = facts_of(load("nft", NATIVE["ours"][0]))
    assert not fact.conntrack_used
    fact, _ = facts_of(load("nft", NATIVE["by ip protocol"][0]))
    assert fact.conntrack_used
    fact, _ = facts_of(load("nft", "table inet f {\n chain some { counter drop\n }\n}"))
    assert not fact.conntrack_used
    assert (fact.nat, fact.nat_uses) == ((), ())


def test_rules_of_a_table_that_is_switched_off_do_not_count(load: Load, run_in: RunIn) -> None:
    rules = """
table inet f {
  chain in { type filter hook input priority 0; policy accept; ct state invalid drop; }
  chain raw { type filter hook prerouting priority -300; policy accept; udp dport 54 notrack; }
}
table ip n {
  chain post { type nat hook postrouting priority 100; policy accept; masquerade; }
}
table inet remedy_udp_redirect {
  chain prerouting { type nat hook prerouting priority -105; policy accept;
    iifname "br0" fib daddr type local udp dport 53 counter redirect
  }
}"""
    ns = load("nft", rules)
    awake, nats = facts_of(ns)
    assert (len(awake.drops), len(awake.nat_uses), len(awake.notracks)) == (1, 1, 1)
    assert len(awake.redirects) == 1
    assert nats.rules
    for name in ("inet f", "ip n", "inet remedy_udp_redirect"):
        run_in(ns, ["nft", f"add table {name} {{ flags dormant; }}"])
    asleep, nats = facts_of(ns)
    assert (asleep.drops, asleep.nat_uses, asleep.notracks) == ((), (), ())
    assert (asleep.redirects, asleep.nat, nats.rules, asleep.unread) == ((), (), (), ())
    assert not asleep.conntrack_used
