"""Other people's firewalls: line-equal before, while a fix is in force, and after it.

ufw, firewalld and kube-proxy as they write their rules, on a container host with NAT. With our
nftables backend what is left beside our own tables is equal to the letter; with iptables, where
our jumps stand in tables that are everybody's, no line of theirs is missing, moved or changed.
Whether the fault is there is asked of real traffic, and scan has to say the same.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked_cli
import pytest

from remedies.lab import ruleset
from remedies.lab.scenarios import tcp_invalid_reset
from remedies.lab.world import Options, World

NOTRACK = """\
apiVersion: remedy/v1
name: sip
extends: default
rules:
  tcp-invalid-reset: {mode: fix, from: exposed, fixes: [invalid-drop], accept_harm: [invalid-drop]}
require:
  - {fix: notrack, reason: SIP, params: {protocol: udp, ports: [5060], addresses: [10.21.17.99]}}
"""
UFW = """\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-logging-input - [0:0]
:ufw-before-input - [0:0]
:ufw-before-forward - [0:0]
:ufw-before-output - [0:0]
:ufw-logging-deny - [0:0]
:ufw-not-local - [0:0]
:ufw-skip-to-policy-input - [0:0]
:ufw-user-input - [0:0]
:ufw-user-forward - [0:0]
:ufw-user-limit - [0:0]
-A INPUT -j ufw-before-logging-input
-A INPUT -j ufw-before-input
-A INPUT -j ufw-user-input
-A FORWARD -j ufw-before-forward
-A FORWARD -j ufw-user-forward
-A OUTPUT -j ufw-before-output
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-input -p udp -m udp --sport 67 --dport 68 -j ACCEPT
-A ufw-before-input -j ufw-not-local
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-output -o lo -j ACCEPT
-A ufw-before-output -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-logging-deny -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[UFW BLOCK] "
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
-A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j ufw-logging-deny
-A ufw-not-local -j DROP
-A ufw-skip-to-policy-input -j DROP
-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
-A ufw-user-input -p udp -m udp --dport 5060 -j ACCEPT
-A ufw-user-forward -i docker0 -j ACCEPT
-A ufw-user-limit -j REJECT --reject-with icmp-port-unreachable
COMMIT
"""
KUBE = """\
*mangle
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-SVC-ERIFXISQEP7F7OF4 - [0:0]
:KUBE-SEP-IT2ZTR26TO4XFPTO - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 53 -j KUBE-SVC-ERIFXISQEP7F7OF4
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SVC-ERIFXISQEP7F7OF4 -j KUBE-SEP-IT2ZTR26TO4XFPTO
-A KUBE-SEP-IT2ZTR26TO4XFPTO -s 172.17.0.2/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-IT2ZTR26TO4XFPTO -p tcp -m tcp -j DNAT --to-destination 172.17.0.2:53
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT \
-j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""
FIREWALLD = """
table inet firewalld {
  chain mangle_PREROUTING { type filter hook prerouting priority mangle + 10; policy accept;
    jump mangle_PREROUTING_ZONES
  }
  chain mangle_PREROUTING_ZONES { iifname "eth0" return
  }
  chain filter_INPUT { type filter hook input priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    goto filter_INPUT_ZONES
  }
  chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ip6 daddr { ::/96, 2002::/24 } reject with icmpv6 type addr-unreachable
    jump filter_FWD_ZONES
    ct state { invalid } drop
    reject with icmpx type admin-prohibited
  }
  chain filter_INPUT_ZONES {
    iifname "docker0" goto filter_IN_docker
    goto filter_IN_public
  }
  chain filter_FWD_ZONES { iifname "docker0" oifname "eth0" ct state new accept
  }
  chain filter_IN_docker { accept
  }
  chain filter_IN_public {
    tcp dport 22 ct state { new, untracked } accept
    udp dport 5060 ct state { new, untracked } accept
    INVALID
    reject with icmpx type admin-prohibited
  }
  chain filter_OUTPUT { type filter hook output priority filter + 10; policy accept;
    ct state { established, related } accept
    oifname "lo" accept
  }
}
"""
RHEL = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p icmp -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m conntrack --ctstate NEW -m tcp --dport 22 -j ACCEPT
-A INPUT -p udp -m udp --dport 5060 -j ACCEPT
-A INPUT -j REJECT --reject-with icmp-host-prohibited
COMMIT
"""
RESETTING = "-p tcp -j REJECT --reject-with tcp-reset"
OTHERS = {
    "ufw": (UFW, "iptables", True),
    "ufw that lets INVALID go on": (UFW.replace("INVALID -j DROP", "INVALID"), "iptables", True),
    "kube-proxy": (KUBE, "iptables", False),
    "firewalld": (FIREWALLD.replace("INVALID", "ct state { invalid } drop"), "nft", True),
    "a default REJECT": (RHEL, "iptables", True),
    "a default REJECT with tcp-reset": (
        RHEL.replace("-j REJECT --reject-with icmp-host-prohibited", RESETTING),
        "iptables",
        False,
    ),
    "firewalld that resets": (
        FIREWALLD.replace("INVALID\n", "meta l4proto tcp reject with tcp reset\n"),
        "nft",
        False,
    ),
}
"""Text, the tool that loads it, and whether a stray segment is dropped before it is answered."""

_BESIDE = {"iptables-legacy": [*(("iptables", other) for other in OTHERS), ("nftables", "ufw")]}
CASES = [
    pytest.param(other, nat, backend, id=f"{other}-{nat}-{backend}")
    for other, (_, tool, _) in OTHERS.items()
    for nat, backend in (
        ("nft", "nftables"),
        ("iptables-nft", "iptables"),
        ("iptables-legacy", "iptables"),
        ("iptables-legacy", "nftables"),
    )
    # Ours in nf_tables beside a legacy ruleset: one of them stands for all.
    if (nat != "nft" or tool == "nft") and (backend, other) in _BESIDE.get(nat, [(backend, other)])
]


@pytest.fixture
def world(other: str, nat: str, backend: str) -> Iterator[World]:
    text, tool, _ = OTHERS[other]
    with World("tcp-invalid-reset", Options(nat, 4, backend=backend)) as made:
        tcp_invalid_reset.build(made)
        argv = ["nft", "-f", "-"] if tool == "nft" else [f"{nat}-restore", "--noflush"]
        made.run("host", argv, text)
        yield made


def remedy(world: World, *words: str, codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """Run the command line against the world's host; return its JSON."""
    done = forked_cli.run(*world.remedy, *words, "--json")
    assert done.returncode in codes, (words, done.returncode, done.stdout, done.stderr)
    return dict(json.loads(done.stdout))


def agrees(world: World) -> bool:
    """Tell whether a transfer with a stray segment lives, which scan has to say, too."""
    lives = tcp_invalid_reset.transfer(world, tcp_invalid_reset.ABOVE).alive
    found = remedy(world, "scan", "--window", "0", codes=(0, 2))["findings"]
    verdicts = {f["verdict"] for f in found if f["condition"] == "tcp-invalid-reset"}
    assert verdicts <= ({"mitigated"} if lives else {"exposed", "active", "proven"}), lives
    assert lives or verdicts
    return lives


def theirs(found: ruleset.Dump) -> ruleset.Dump:
    """Return a dump without our own nft tables."""
    ours = re.compile(r"^table \w+ remedy_\w+ \{\n.*?^\}\n?", re.MULTILINE | re.DOTALL)
    return {**found, "nft": ours.sub("", found["nft"]).rstrip()}


def missing(before: ruleset.Dump, now: ruleset.Dump) -> list[str]:
    """Return the lines that were there before and are not, in their order, there now."""
    return [
        f"{source}: {line[2:]}"
        for source, text in before.items()
        for line in difflib.ndiff(text.splitlines(), now.get(source, "").splitlines())
        if line.startswith("- ")
    ]


@pytest.mark.parametrize(("other", "nat", "backend"), CASES)
def test_not_a_line_of_theirs_changes(
    world: World, tmp_path: Path, other: str, nat: str, backend: str
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(NOTRACK)
    before = ruleset.dump(world)
    lives = agrees(world)
    assert lives == OTHERS[other][2]
    # kube-proxy masquerades by mark, which could be on any packet: no notrack beside that
    code = 8 if other == "kube-proxy" else 0
    options = ("--policy", str(policy), "--yes", "--window", "0")
    applied = remedy(world, "apply", *options, codes=(code,))
    fixes = {change["fix"] for change in applied["changes"]}
    assert fixes == (set() if code else {"notrack"}) | (set() if lives else {"invalid-drop"})
    during = ruleset.dump(world)
    if backend == "nftables":
        assert ruleset.difference({**before, "nft": before["nft"].rstrip()}, theirs(during)) == ""
    else:
        assert missing(before, during) == []
    assert ruleset.difference(before, during) != ""
    assert agrees(world)
    undone = remedy(world, "rollback", "--every", "--yes")
    assert undone["outcome"] == "rolled-back"
    assert ruleset.difference(before, ruleset.dump(world)) == ""
    assert agrees(world) == lives
