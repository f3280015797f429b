"""Rules of others that take every packet before a rule of ours, and those that do not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from cli_host import Cli
from rules_of_others import ASKING, RESTORE, table

from remedies.facts import bypassed, netfilter
from remedies.namespaces import netns as namespaces

Load = Callable[[str, str], str]
STATE = "-m conntrack --ctstate"
LOCAL = "-m addrtype --dst-type LOCAL"
REDIRECT = f"-i docker0 -p udp -m udp --dport 53 {LOCAL} -j REDIRECT"
DROP = f"-p tcp -m tcp --tcp-flags RST RST {STATE} INVALID -j DROP"


def mangle(*before: str, more: tuple[str, ...] = ()) -> str:
    chains = (":REMEDY-INVALID - [0:0]", ":SITE - [0:0]")
    ours = ("-A OUTPUT -j REMEDY-INVALID", f"-A REMEDY-INVALID {DROP}")
    return table("mangle", *chains, *before, *ours, *more)


def nat(*before: str, raw: str = "") -> str:
    chains = (":REMEDY-REDIRECT - [0:0]", ":SITE - [0:0]")
    ours = ("-A PREROUTING -j REMEDY-REDIRECT", f"-A REMEDY-REDIRECT {REDIRECT}")
    return table("nat", *chains, *before, *ours) + (table("raw", raw) if raw else "")


CASES = {
    "nothing before": (mangle(), ""),
    "all accepted": (mangle("-A OUTPUT -j ACCEPT"), "-A OUTPUT -j ACCEPT"),
    "but loopback": (mangle("-A OUTPUT ! -o lo -j ACCEPT"), "-A OUTPUT ! -o lo -j ACCEPT"),
    "INVALID accepted": (mangle(f"-A OUTPUT {STATE} INVALID -j ACCEPT"), "INVALID -j ACCEPT"),
    "in a chain": (mangle("-A OUTPUT -p tcp -j SITE", "-A SITE -j ACCEPT"), "-A SITE -j ACCEPT"),
    "back to the policy": (mangle("-A OUTPUT -p tcp -j RETURN"), "-A OUTPUT -p tcp -j RETURN"),
    "a chain left": (mangle("-A OUTPUT -p tcp -g SITE"), "-A OUTPUT -p tcp -g SITE"),
    "back from a chain": (
        mangle("-A OUTPUT -j SITE", "-A SITE -j RETURN", "-A SITE -j ACCEPT"),
        "",
    ),
    "dropped": (mangle("-A OUTPUT -p tcp -j DROP"), ""),
    "marked": (mangle("-A OUTPUT -j MARK --set-mark 1"), ""),
    "one port": (mangle("-A OUTPUT -p tcp -m tcp --dport 22 -j ACCEPT"), ""),
    "one link": (mangle("-A OUTPUT -o eth0 -j ACCEPT"), ""),
    "valid accepted": (mangle(f"-A OUTPUT {STATE} ESTABLISHED -j ACCEPT"), ""),
    "limited": (mangle("-A OUTPUT -m limit --limit 5/sec -j ACCEPT"), ""),
    "behind ours": (mangle(more=("-A OUTPUT -j ACCEPT",)), ""),
    "NAT, nothing before": (nat(), ""),
    "NAT, accepted": (nat("-A PREROUTING -p udp -j ACCEPT"), "-A PREROUTING -p udp -j ACCEPT"),
    "NAT, sent elsewhere": (
        nat("-A PREROUTING -i docker0 -p udp -m udp --dport 53 -j REDIRECT --to-ports 5353"),
        "--to-ports 5353",
    ),
    "NAT, new ones": (nat(f"-A PREROUTING {STATE} NEW -j ACCEPT"), "NEW -j ACCEPT"),
    "NAT, dropped": (nat("-A PREROUTING -i docker0 -j SITE", "-A SITE -j RETURN"), ""),
    "NAT, another port": (nat("-A PREROUTING -p udp -m udp --dport 54 -j ACCEPT"), ""),
    "NAT, another link": (nat("-A PREROUTING -i eth0 -j ACCEPT"), ""),
    "not tracked": (
        nat(raw="-A PREROUTING -p udp -m udp --dport 53 -j CT --notrack"),
        "--dport 53 -j CT --notrack",
    ),
    "another port not tracked": (
        nat(raw="-A PREROUTING -p udp -m udp --dport 54 -j CT --notrack"),
        "",
    ),
}


def read(ns: str) -> bypassed.Bypassed:
    """Return what is bypassed; a redirect that is does not count as in force."""
    with namespaces.inside(ns):
        fact, rules = bypassed.read(ASKING), netfilter.read(ASKING)
    taken = {item.resource for item in fact.rules}
    assert not taken & {item.resource for item in rules.redirects}
    return fact


@pytest.mark.parametrize(("variant", "family"), list(RESTORE))
def test_what_takes_every_packet_first_is_named(load: Load, variant: str, family: str) -> None:
    tool = RESTORE[variant, family]
    ns = load(tool, mangle())
    for case, (text, rule) in CASES.items():
        enter = ["nsenter", f"--net=/run/netns/{ns}", "--", tool]
        for name in ("mangle", "nat", "raw"):
            cleared = text if f"*{name}" in text else table(name)
            subprocess.run(enter, input=cleared, text=True, check=True, capture_output=True)
        fact = read(ns)
        assert fact.unread == (), case
        assert len(fact.rules) == bool(rule), (case, fact)
        for found in fact.rules:
            assert found.rule.endswith(rule), case
            assert found.family == family
            scheme = "iptables:" if family == "ip" else "ip6tables:"
            assert found.resource.startswith(scheme)
            assert found.place.startswith(f"iptables-{variant} {family} ")


OURS = """
table inet remedy_udp_redirect {
  chain prerouting { type nat hook prerouting priority -105; policy accept;
    iifname "docker0" fib daddr type local udp dport 53 counter redirect
  }
}
table inet remedy_invalid_drop {
  chain output { type filter hook output priority -10; policy accept;
    tcp flags rst ct state invalid counter drop
  }
}
"""
SITE = """
table inet site {
  chain pre { type %s hook prerouting priority %s; policy accept;
    %s
  }
  chain out { type filter hook output priority -20; policy accept; accept; }
}
"""
NATIVE = [
    (("nat", "-110", 'iifname "docker0" udp dport 53 dnat ip to 10.0.0.9'), False),
    (("nat", "-110", "udp dport 53 redirect to :5353"), True),
    (("nat", "-110", "udp dport 53 accept"), False),
    (("nat", "-100", "udp dport 53 redirect to :5353"), False),
    (("filter", "-300", "udp dport 53 notrack"), True),
    (("filter", "-300", "udp dport 53 accept"), False),
    (("filter", "-150", "udp dport 53 accept"), False),
]


def test_what_comes_before_a_base_chain_of_ours(load: Load) -> None:
    for site, taken in NATIVE:
        ns = load("nft", OURS + SITE % site)
        fact = read(ns)
        assert fact.unread == ()
        with namespaces.inside(ns):
            assert bool(netfilter.read(ASKING).redirects) != taken
        assert [item.resource for item in fact.rules] == (
            ["nft:inet/remedy_udp_redirect"] if taken else []
        ), site


@pytest.mark.parametrize("tool", ["iptables-nft", "ip6tables-nft"])
def test_status_says_that_the_fix_no_longer_acts(cli: Cli, tool: str) -> None:
    cli.json("apply", "--yes", "--backend", "iptables", "--window", "0")
    assert cli.json("status")["bypassed"] == []
    front = (tool, "-w", "-t", "mangle", "-I", "OUTPUT", "-p", "tcp", "-j", "ACCEPT")
    assert cli.inside(*front).returncode == 0
    told = cli.json("status", code=2)["bypassed"]
    scheme = "iptables" if tool == "iptables-nft" else "ip6tables"
    assert {item["resource"] for item in told} == {f"{scheme}:mangle/REMEDY-INVALID"}
    assert {item["rule"] for item in told} == {"-A OUTPUT -p tcp -j ACCEPT"}
    assert "-A OUTPUT -p tcp -j ACCEPT" in cli("status").stdout
    assert cli.json("verify", "--window", "0", code=2)["bypassed"] == told
    assert cli.inside(*("-D" if word == "-I" else word for word in front)).returncode == 0
    assert cli.json("status")["bypassed"] == []
