"""Rulesets as other programs write them, and what the probes make of them."""

from __future__ import annotations

from remedies.facts import Asking, nat, netfilter
from remedies.model import Host
from remedies.namespaces import netns as namespaces

RESTORE = {
    ("nft", "ip"): "iptables-nft-restore",
    ("nft", "ip6"): "ip6tables-nft-restore",
    ("legacy", "ip"): "iptables-legacy-restore",
    ("legacy", "ip6"): "ip6tables-legacy-restore",
}
ASKING = Asking(host=Host("", "", "", "", ""), topics=frozenset({"nat-rules"}), timeout=20)


def facts_of(ns: str) -> tuple[netfilter.Netfilter, nat.Nat]:
    with namespaces.inside(ns):
        first = netfilter.read(ASKING)
        return first, nat.read(ASKING)


def table(name: str, *lines: str) -> str:
    return "\n".join([f"*{name}", *lines, "COMMIT", ""])
