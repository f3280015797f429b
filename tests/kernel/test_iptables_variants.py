"""Rules of both variants of iptables, and rules that iptables-nft itself cannot list."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from run_in import RunIn

from remedies.facts.gather import read_facts
from remedies.facts.host import read_host
from remedies.facts.netfilter import Netfilter
from remedies.namespaces.netns import inside

OWN = """\
*nat
-N DOCKER
-N KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A PREROUTING -j KUBE-SERVICES
-A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080
-A PREROUTING -p tcp --dport 81 -j DNAT --to-destination 172.17.0.2:80
-A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE
-A POSTROUTING -s 10.0.0.0/8 -j SNAT --to-source 192.0.2.1
COMMIT
*filter
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -m limit --limit 3/s -j LOG --log-prefix ct
-A INPUT -j NFLOG --nflog-group 3
-A INPUT -p icmp -j ACCEPT
-A FORWARD -s 172.17.0.0/16 -j ACCEPT
-A FORWARD -j REJECT
-A OUTPUT -p tcp -j ACCEPT
COMMIT
*raw
-A PREROUTING -p udp -j CT --notrack
-A PREROUTING -p icmp -j TRACE
COMMIT
"""
THEIRS = (
    "ct state new accept",
    "ct state vmap { new : accept, invalid : drop }",
    "ct mark set 4",
    "fib daddr type local accept",
    'log prefix "x"',
    "log group 3",
    "reject",
    "ip saddr 192.0.2.1 drop",
    "tcp dport { 80, 443 } accept",
    "meta mark 4 accept",
    "limit rate 3/second accept",
)


def seen(host: str) -> Netfilter:
    with inside(host):
        return read_facts(read_host(), [Netfilter]).get(Netfilter)


def test_iptables_nft_says_which_rules_it_cannot_list(
    netns: Callable[..., str], run_in: RunIn
) -> None:
    host, told = netns("h"), {}
    run_in(host, ["iptables-nft-restore"], stdin=OWN)
    assert seen(host).unlisted == ()
    for rule in THEIRS:
        run_in(host, ["nft", "add", "rule", "ip", "filter", "OUTPUT", rule])
        argv = ["ip", "netns", "exec", host, "iptables-nft", "-S"]
        done = subprocess.run(argv, capture_output=True, timeout=30, check=False)
        told[rule] = done.returncode != 0
        found = seen(host).unlisted
        assert [each.chain for each in found] == (["OUTPUT"] if told[rule] else []), rule
        for handle in found[0].handles if found else ():
            run_in(host, ["nft", "delete", "rule", "ip", "filter", "OUTPUT", f"handle {handle}"])
        run_in(host, ["nft", "flush", "chain", "ip", "filter", "OUTPUT"])
        assert seen(host).unlisted == ()
    assert set(told.values()) == {True, False}


def test_both_variants_hold_rules(netns: Callable[..., str], run_in: RunIn) -> None:
    host, legacy = netns("h"), ("iptables-legacy", "-w")
    run_in(host, ["iptables-nft-restore"], stdin=OWN)
    run_in(host, [*legacy, "-S"])  # the table is there from now on
    assert seen(host).mixed == ()
    run_in(host, [*legacy, "-A", "INPUT", "-j", "ACCEPT"])
    assert seen(host).mixed == ()  # nothing that is forwarded meets it
    run_in(host, [*legacy, "-A", "FORWARD", "-s", "192.0.2.1", "-j", "DROP"])
    mixed = seen(host).mixed
    assert "iptables-legacy ip filter FORWARD" in mixed
    assert "iptables-nft ip nat POSTROUTING" in mixed
    assert not any(place.endswith(" INPUT") for place in mixed)
    run_in(host, [*legacy, "-F"])
    assert seen(host).mixed == ()
