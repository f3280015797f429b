"""Conditions that no packet, or any packet, meets: lots, other IP versions, links a hook has not.

One namespace redirects port 5300 of its own address. A datagram that gets to port 5300 itself was
kept from NAT: the verdict on the notrack rule is what happened to some of forty.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable

import pytest
from rules_of_others import table
from run_in import run_command

from remedies.conditions import notrack_breaks_nat as condition
from remedies.facts.gather import read_facts
from remedies.facts.host import read_host
from remedies.namespaces.netns import inside

HERE, ASKED, REDIRECTED = "192.0.2.10", 5300, 5301
SENT = 40


@pytest.fixture(scope="module")
def ns(module_netns: Callable[..., str]) -> str:
    made = module_netns("ch")
    run_command(made, ["ip", "addr", "add", f"{HERE}/32", "dev", "lo"])
    return made


def lost(ns: str) -> int:
    """Return how many of the datagrams sent to port 5300 got there."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(inside(ns))

        def bound(port: int) -> socket.socket:
            end = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            end.bind(("" if port == REDIRECTED else HERE, port))  # output redirects to 127.0.0.1
            return end

        got = {bound(ASKED): 0, bound(REDIRECTED): 0}
        asked = next(iter(got))
        for _ in range(SENT):
            bound(0).sendto(b"x", (HERE, ASKED))
        while sum(got.values()) < SENT:
            ready, _, _ = select.select(list(got), [], [], 10)
            assert ready, f"{list(got.values())} of {SENT} arrived"
            for end in ready:
                end.recv(10)
                got[end] += 1
        return got[asked]


def verdicts(ns: str) -> set[str]:
    with inside(ns):
        return {f.verdict for f in condition.detect(read_facts(read_host(), condition.NEEDS), {})}


def ruleset(notrack: str = "", nat: str = "", raw: str = "", chains: str = "") -> str:
    """Return a raw table of both IP versions and a NAT table of IPv4."""
    return f"""
table inet r {{
  {raw}
  {chains}
  chain o {{ type filter hook output priority raw; {notrack or "udp dport 5300 notrack"}; }}
}}
table ip n {{
  chain to {{ meta l4proto udp redirect to :5301; }}
  chain o {{ type nat hook output priority -100; udp dport 5300 {nat or "goto to"}; }}
}}
"""


SEEN = "udp dport 5300 notrack"
MISSED = {
    "always": ruleset(),
    "nat by lots": ruleset(nat="numgen random mod 2 vmap { 0 : goto to, 1 : goto to }"),
    "nat by turns": ruleset(nat="numgen inc mod 3 vmap { 0-1 : goto to, 2 : goto to }"),
    "nat for half": ruleset(nat="numgen random mod 2 0 goto to"),
    "nat by hash": ruleset(nat="jhash udp sport mod 2 vmap { 0 : goto to, 1 : goto to }"),
    "nat by flow": ruleset(nat="symhash mod 2 vmap { 0 : goto to, 1 : goto to }"),
    "notrack for half": ruleset("udp dport 5300 numgen random mod 2 0 notrack"),
    "notrack by turns": ruleset("udp dport 5300 numgen inc mod 2 0 notrack"),
    "notrack by hash": ruleset("udp dport 5300 jhash udp sport mod 2 0 notrack"),
    "notrack by random": ruleset("udp dport 5300 meta random < 2147483647 notrack"),
    "of ipv4": ruleset(f"meta nfproto ipv4 {SEEN}"),
    "not of ipv6": ruleset(f"meta nfproto != ipv6 {SEEN}"),
    "of both": ruleset(f"meta nfproto {{ ipv4, ipv6 }} {SEEN}"),
    "by version": ruleset(
        "meta nfproto vmap { ipv4 : jump four, ipv6 : accept }", chains=f"chain four {{ {SEEN}; }}"
    ),
    "not by a link": ruleset(f'iifname != "lo" {SEEN}'),
    "not by a link's number": ruleset(f'iif != "lo" {SEEN}'),
    "by where it leaves": ruleset(f'oifname "lo" {SEEN}'),
}
KEPT = {
    "another port": ruleset("udp dport 5299 notrack"),
    "asleep": ruleset(raw="flags dormant;"),
    "of ipv6": ruleset(f"meta nfproto ipv6 {SEEN}"),
    "of protocol ipv6": ruleset(f"meta protocol ip6 {SEEN}"),
    "not of ipv4": ruleset(f"meta nfproto != ipv4 {SEEN}"),
    "with a header of ipv6": ruleset(f"ip6 hoplimit > 1 {SEEN}"),
    "by version": ruleset(
        "meta nfproto vmap { ipv4 : accept, ipv6 : jump six }", chains=f"chain six {{ {SEEN}; }}"
    ),
    "behind an accept of ipv4": ruleset(f"meta nfproto ipv4 accept; {SEEN}"),
    "by a link": ruleset(f'iifname "lo" {SEEN}'),
    "by a link's number": ruleset(f'iif "lo" {SEEN}'),
    "by links": ruleset(f'iifname {{ "lo", "eth0" }} {SEEN}'),
    "behind a link": ruleset('iifname "lo" jump own', chains=f"chain own {{ {SEEN}; }}"),
    "by a map of links": ruleset(
        'iifname vmap { "lo" : jump own }', chains=f"chain own {{ {SEEN}; }}"
    ),
}


@pytest.mark.parametrize("case", list(MISSED))
def test_some_packets_are_kept_from_nat(ns: str, case: str) -> None:
    run_command(ns, ["nft", "-f", "-"], stdin=f"flush ruleset\n{MISSED[case]}")
    assert lost(ns) > 0
    assert verdicts(ns) == {"exposed"}


@pytest.mark.parametrize("case", list(KEPT))
def test_no_packet_is_kept_from_nat(ns: str, case: str) -> None:
    run_command(ns, ["nft", "-f", "-"], stdin=f"flush ruleset\n{KEPT[case]}")
    assert lost(ns) == 0
    assert verdicts(ns) == set()


@pytest.mark.parametrize("variant", ["nft", "legacy"])
@pytest.mark.parametrize(
    "mode", ["--mode random --probability 0.5", "--mode nth --every 2 --packet 0"]
)
def test_lots_of_iptables(ns: str, variant: str, mode: str) -> None:
    run_command(ns, ["nft", "flush ruleset"])
    rules = table("raw", f"-A OUTPUT -p udp --dport 5300 -m statistic {mode} -j NOTRACK")
    rules += table("nat", "-A OUTPUT -p udp --dport 5300 -j REDIRECT --to-ports 5301")
    run_command(ns, [f"iptables-{variant}-restore"], stdin=rules)
    assert 0 < lost(ns) < SENT
    assert verdicts(ns) == {"exposed"}
