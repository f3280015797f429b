"""Rules are shown as their tool prints them: line-equal, or with what finds them.

Typical lines of Docker, kube-proxy, kube-router, Calico, Cilium, firewalld, ufw, istio, Proxmox and
AWS, and every kind of match that is known, loaded by both variants of iptables, decoded, and
compared with what that variant's own save prints.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from run_in import RunIn

from remedies.namespaces import netns
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


def test_rules_of_nft_are_equal_or_have_their_handle(
    load: Callable[[str, str], str], run_in: RunIn
) -> None:
    exact = (
        'iifname "eth0" tcp dport 22 accept comment "a way in"',
        'oifname != "docker0" ip saddr 172.17.0.0/16 masquerade',
        "ct state invalid drop",
        "ip daddr 10.0.0.1 udp dport 53 notrack",
    )
    found = (
        "ip saddr 10.0.0.1 masquerade random",
        "meta mark 0x00000001 drop",
        "@th,16,8 0x01 drop",
    )
    rules = "\n".join((*exact, *found))
    ns = load("nft", f"table ip t {{\n chain c {{\n{rules}\n}}\n}}\n")
    with netns.inside(ns):
        store = NfTables(time.monotonic() + 10)
        steps = [s for raw in store.raw("ip", "t", "c") for s in store.decode("ip", "t", raw)]
        mine = [store.text("ip", "t", "c", step) for step in steps]
    listed = run_in(ns, ["nft", "-a", "list", "chain", "ip", "t", "c"]).stdout.splitlines()
    theirs = [line.strip() for line in listed if "# handle" in line][1:]
    assert mine[: len(exact)] == list(exact)
    for own, other in zip(mine, theirs):
        assert other.startswith(own) or own.partition(" # ")[2] == other.partition(" # ")[2]
    assert all(" # handle " in own for own in mine[len(exact) :])
