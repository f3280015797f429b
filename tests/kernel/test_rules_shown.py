"""Rules are shown as their tool prints them: line-equal, or with what finds them.

Typical lines of Docker, kube-proxy, kube-router, Calico, Cilium, firewalld, ufw, istio, Proxmox and
AWS, and every kind of match that is known, loaded by both variants of iptables, decoded, and
compared with what that variant's own save prints.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from run_in import RunIn

from remedies.namespaces import netns
from remedies.netfilter import libnftables, stores
from remedies.netfilter.stores import Legacy, NfTables, RuleStore

RULES = Path(__file__).with_name("rules_shown.rules").read_text()
FOUND_BY_NUMBER = ("iprange", "length", "255.0.255.0", "0x10000/0x10000 -g")


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_rules_are_shown_as_their_tool_prints_them(
    load: Callable[[str, str], str], run_in: RunIn, variant: str
) -> None:
    ns = load(f"iptables-{variant}-restore", RULES)
    with netns.inside(ns):
        until = time.monotonic() + 10
        store: RuleStore = NfTables(until) if variant == "nft" else Legacy(until)
        mine: dict[str, list[str]] = {}
        for family, table in store.tables():
            for chain in store.chains(family, table):
                for raw in store.raw(family, table, chain):
                    for step in store.decode(family, table, raw):
                        shown = store.text(family, table, chain, step)
                        mine.setdefault(f"{table} {chain}", []).append(shown)
    theirs: dict[str, list[str]] = {}
    name = ""
    for line in run_in(ns, [f"iptables-{variant}-save"]).stdout.splitlines():
        name = line[1:] if line.startswith("*") else name
        if line.startswith("-A"):
            theirs.setdefault(f"{name} {line.split()[1]}", []).append(line)
    assert mine.keys() == theirs.keys()
    for place, lines in theirs.items():
        for own, other in zip(mine[place], lines):
            if "# " in own:
                assert any(word in other for word in FOUND_BY_NUMBER), (own, other)
            else:
                assert own == other
        assert len(mine[place]) == len(lines)


NFT_RULES = (
    'iifname "eth0" tcp dport 22 accept comment "a way in"',
    'tcp dport 22 iifname "eth0" accept',
    "ip protocol udp drop",
    "tcp dport != 22 accept",
    "tcp dport < 1024 ip daddr 10.0.0.1-10.0.0.9 reject with tcp reset",
    'oifname != "docker0" ip saddr 172.17.0.0/16 masquerade',
    "ip saddr 10.0.0.1 masquerade random",
    "masquerade",
    "masquerade fully-random",
    'notrack comment "all of it"',
    "ct state invalid counter drop",
    "ct state != established tcp flags & (fin | syn | rst | ack) == rst drop",
    "ip daddr 10.0.0.1 udp dport 53 notrack",
    "meta mark & 0x000000ff == 0x00000001 ip ttl < 3 drop",
    'ct mark 0x00000007 limit rate 5/second log prefix "x # handle 3" drop',
    "tcp option maxseg size 1-500 meta skuid 0 drop",
    "ip saddr . tcp dport vmap { 10.0.0.1 . 22 : drop, 10.0.0.2 . 80-90 : accept }",
    "meta pkttype broadcast fib daddr type local meta l4proto tcp dnat to 10.0.0.2:80",
    "@th,16,8 0x01 ip dscp cs1 ip saddr @many drop",
)


def shown_by_nft(ns: str) -> list[str]:
    """Return how the rules of chain ip t c are shown."""
    with netns.inside(ns):
        store = NfTables(time.monotonic() + 10)
        raw = list(store.raw("ip", "t", "c"))
        steps = [store.decode("ip", "t", each)[0] for each in raw]
        return [store.text("ip", "t", "c", step) for step in steps]


def test_rules_of_nft_are_shown_as_nft_prints_them(
    load: Callable[[str, str], str], run_in: RunIn
) -> None:
    rules = "\n".join(NFT_RULES)
    many = "set many { type ipv4_addr\n elements = { 10.0.0.1, 10.0.0.2 }\n}"
    ns = load("nft", f"table ip t {{\n{many}\nchain c {{\n{rules}\n}}\n}}\n")
    listed = run_in(ns, ["nft", "-a", "-s", "list", "chain", "ip", "t", "c"]).stdout.splitlines()
    theirs = [line.strip() for line in listed if line.startswith("\t\t")]
    assert len(theirs) == len(NFT_RULES)
    assert shown_by_nft(ns) == theirs


def test_nft_is_not_asked_for_a_rule_of_one_word(
    load: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ns = load("nft", "table ip t {\nchain c {\nmasquerade\nnotrack\n}\n}\n")
    monkeypatch.delattr(libnftables, "printed_rules")  # asking fails
    assert shown_by_nft(ns) == ["masquerade # handle 2", "notrack # handle 3"]


def test_a_comment_with_lines_like_rules_shows_no_rule_as_another(
    load: Callable[[str, str], str], run_in: RunIn
) -> None:
    lines = "\n".join(f"\t\taccept # handle {number}" for number in (2, 3, 4))
    rules = f'ip ttl < 3 drop\ntcp dport 22 accept comment "a\n{lines}\n\t\tb"\n'
    ns = load("nft", f"table ip t {{\nchain c {{\n{rules}}}\n}}\n")
    forged = run_in(ns, ["nft", "-a", "list", "table", "ip", "t"]).stdout
    assert "\t\taccept # handle 2\n" in forged
    first, second = shown_by_nft(ns)
    assert "drop # handle " in first
    assert first.startswith("[")
    assert second.startswith("tcp dport 22 accept comment")


@pytest.mark.parametrize("why", ["a big table", "no binding"])
def test_rules_that_nft_does_not_print_are_shown_decoded_with_their_handle(
    load: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    ns = load("nft", "table ip t {\nchain c {\nip ttl 1 drop\ntcp dport 22 accept\n}\n}\n")
    if why == "a big table":
        monkeypatch.setattr(stores, "_PRINTED", 1)
    else:
        monkeypatch.setitem(sys.modules, "nftables", None)  # importing it fails
    shown = shown_by_nft(ns)
    assert shown == ["[ttl] drop # handle 2", "tcp dport 22 accept # handle 3"]
