"""The pulse of a namespace: what shows for the price of some small files that something moved.

Counters, the generation of the nf_tables ruleset, the sizes of legacy tables, links, routes,
sockets and the sysctls that no kernel event announces. No flow, rule or socket is read.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import counters
from remedies.facts.counters import PROC_NET
from remedies.facts.sysctl import value
from remedies.netfilter import legacy
from remedies.netlink import nft
from remedies.values import dataclass, field

KEYS = (
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.netfilter.nf_conntrack_tcp_be_liberal",
)
"""The sysctls that fixes and container engines write."""
_COUNT, _MAX = "net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max"
_FULL_FROM, _STEP = 75, 5
"""Percent: below it the share of conntrack's table that is in use is no movement."""
_PATIENCE = 1.0
"""Seconds that netlink may take."""
_TOLD = 3


@dataclass(frozen=True)
class Pulse:
    """Cumulative counters, and states that are compared for being the same."""

    counters: dict[str, int] = field(default_factory=dict)
    """As :class:`remedies.facts.counters.Counters` names them."""
    states: dict[str, str] = field(default_factory=dict)
    """By what a person calls it."""
    entries: int = 0
    """Flows in conntrack's table."""
    limit: int = 0
    """The most it takes; 0: conntrack is not loaded."""


def read() -> Pulse:
    """Return the pulse of this thread's namespace; what cannot be read is left out."""
    counted, _ = counters.snapshot()
    entries, limit = _number(_COUNT) or 0, _number(_MAX) or 0
    states = dict(_states())
    if limit:
        percent = 100 * entries // limit // _STEP * _STEP
        states["conntrack's table"] = f"{percent} % full" if percent >= _FULL_FROM else "has room"
    return Pulse(counted, states, entries, limit)


def moved(before: Pulse, now: Pulse) -> tuple[str, ...]:
    """Return what moved between two pulses, in words; empty: nothing did. Pure."""
    said = []
    for name in dict.fromkeys((*before.states, *now.states)):
        was, is_ = before.states.get(name, "none"), now.states.get(name, "none")
        if was != is_:
            said.append(f"{name}: {was} -> {is_}" if len(was + is_) < 60 else f"{name} changed")
    steps = [
        f"{name} +{count - before.counters[name]}"
        for name, count in now.counters.items()
        if count > before.counters.get(name, count)
    ]
    if steps:
        more = f" and {len(steps) - _TOLD} more" if len(steps) > _TOLD else ""
        said.append(f"counters: {', '.join(steps[:_TOLD])}{more}")
    return tuple(said)


def _states() -> Iterator[tuple[str, str]]:
    with contextlib.suppress(OSError, Unreadable):  # no nf_tables, or not permitted: a scan says so
        yield "nf_tables ruleset", f"generation {nft.generation(time.monotonic() + _PATIENCE)}"
    for family in ("ip", "ip6"):
        try:
            for table in legacy.tables(family):
                yield f"legacy {family} table {table}", legacy.size(family, table)
        except (OSError, Unreadable):
            continue
    yield from _text("routes", "route")
    yield from _text("addresses and links", "if_inet6")
    for line in dict(_text("", "sockstat")).get("", "").split("\n"):
        if line.startswith("UDP:"):
            yield "UDP sockets", line.split()[2]
    for key in KEYS:
        try:
            yield key, value(key)
        except OSError:  # its module is not loaded
            continue


def _text(name: str, file: str) -> Iterator[tuple[str, str]]:
    try:
        descriptor = os.open(f"{PROC_NET}/{file}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        yield name, os.read(descriptor, 1 << 16).decode("ascii", "replace")
    finally:
        os.close(descriptor)


def _number(key: str) -> Optional[int]:
    try:
        return int(value(key))
    except (OSError, ValueError):
        return None
