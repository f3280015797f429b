"""What a host's firewall and sysctls are, written so that two moments can be compared.

Comments and packet counters are left out: they move by themselves.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
from typing import TYPE_CHECKING

from remedies.namespaces.netns import inside

if TYPE_CHECKING:
    from remedies.lab.world import World

Dump = dict[str, str]
"""Source (``nft``, ``iptables-legacy-save``, a sysctl key) to its text."""

_SAVES = (
    ("iptables-nft-save", ""),
    ("ip6tables-nft-save", ""),
    ("iptables-legacy-save", "ip_tables_names"),
    ("ip6tables-legacy-save", "ip6_tables_names"),
)
_SYSCTLS = (
    "net.netfilter.nf_conntrack_tcp_be_liberal",
    "net.netfilter.nf_conntrack_tcp_loose",
    "net.netfilter.nf_conntrack_tcp_ignore_invalid_rst",
    "net.ipv4.ip_forward",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv6.conf.all.forwarding",
)
_CONF = "/proc/sys/net/ipv4/conf"
_OF_A_LINK = ("accept_redirects", "forwarding", "route_localnet", "rp_filter", "src_valid_mark")
_IDLE_TABLE = re.compile(r"^\*\w+\n(?::[A-Z]+ ACCEPT\n)+COMMIT\n?", re.MULTILINE)
_COUNTERS = re.compile(r"\[\d+:\d+\]|packets \d+ bytes \d+")


def _table_names(world: World, file: str) -> str:
    """Return the legacy tables that are loaded in the host's namespace.

    Running a legacy tool where none is would load one.
    """
    try:
        with (
            inside(world.namespace("host")),
            open(f"/proc/thread-self/net/{file}", encoding="ascii") as names,
        ):
            return names.read()
    except FileNotFoundError:  # the kernel has no legacy iptables, or has not loaded it yet
        return ""


def dump(world: World) -> Dump:
    """Return the rules of nft and of both iptables, and the sysctls, of the world's host."""
    found = {"nft": world.run("host", ["nft", "-s", "list", "ruleset"])}
    for command, names in _SAVES:
        if shutil.which(command) and (not names or _table_names(world, names)):
            found[command] = world.run("host", [command])
    for source, text in found.items():
        found[source] = normal(text)
    found["net.ipv4.conf"] = _of_links(world)
    return {**found, **{key: world.sysctl("host", key) for key in _SYSCTLS}}


def _of_links(world: World) -> str:
    """Return the settings of every link that decide whether its packets are passed on."""
    lines = []
    with inside(world.namespace("host")):
        for link in sorted(os.listdir(_CONF)):
            for name in _OF_A_LINK:
                with open(f"{_CONF}/{link}/{name}", encoding="ascii") as file:
                    lines.append(f"{link}.{name} = {file.read().strip()}")
    return "\n".join(lines)


def normal(text: str) -> str:
    """Return a ruleset without comments, counters and legacy tables that do nothing.

    A legacy table, once loaded, stays until its namespace ends; with built-in chains, ACCEPT
    policies and no rules it lets everything pass, as an absent one does.
    """
    lines = [_COUNTERS.sub("", line).rstrip() for line in text.splitlines()]
    kept = "\n".join(line for line in lines if line and not line.startswith("#"))
    return _IDLE_TABLE.sub("", kept)


def difference(before: Dump, after: Dump) -> str:
    """Return a unified diff of all sources that differ; empty when none does."""
    lines: list[str] = []
    for source in sorted({*before, *after}):
        one, other = before.get(source, ""), after.get(source, "")
        lines += difflib.unified_diff(
            one.splitlines(),
            other.splitlines(),
            f"{source} before",
            f"{source} after",
            lineterm="",
            n=1,
        )
    return "\n".join(lines)
