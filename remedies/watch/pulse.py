"""The pulse of a namespace: what shows for the price of some small files that something moved.

Counters, the generation of the nf_tables ruleset, legacy tables without their counters, links,
addresses, routes, numbers of sockets and the sysctls that conditions turn on. No flow, socket or
rule of nf_tables is read.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any, Optional

from remedies.errors import Unreadable
from remedies.facts import shared
from remedies.facts.counters import FILES, NAMES, PROC_NET
from remedies.netfilter import legacy
from remedies.netlink import nft, route
from remedies.netlink.socket import NETLINK_ROUTE, SMALL, Netlink
from remedies.values import dataclass, field
from remedies.watch.sysctls import SysctlReader, by_path

KEYS = (
    "net.ipv4.conf.all.route_localnet",
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.netfilter.nf_conntrack_tcp_be_liberal",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
)
"""The sysctls that conditions turn on; those of each link are among the links' settings."""
_BRIDGED = "net.bridge.bridge-nf-call-iptables"
"""Only while br_netfilter is loaded, which comes and goes with its programs."""
COUNTERS = NAMES | shared.SUMS
"""Every counter of a pulse."""
_TABLE = "net.netfilter.nf_conntrack_"
_SYSCTLS = (*KEYS, _BRIDGED, _TABLE + "count", _TABLE + "max")
_MOST = 1 << 16
"""Octets of a file that are compared, and somewhat more."""
_LAST = 2048
"""An answer shorter than this is a file's last: others are filled with whole lines up to a page
(seq_read_iter() in fs/seq_file.c), and no line is that long."""
_PATIENCE = 1.0
"""Seconds that netlink may take."""
_RULESET = "nf_tables ruleset"
_LINKS = "links and addresses"
_ROUTES6 = "IPv6 routes"
_UDP = "UDP sockets"
_ALL = "all of it"
_TOLD = 3
_RT6 = (0, 1, 3)
"""Nodes, nodes with routes, and routes (rt6_stats_seq_show()); what lies between only grows."""
_OF_EVERY_PACKET = ("snmp", "snmp6")
"""The files that change with every packet of IPv4 and IPv6: if they do not, no other one does."""
_EACH_TIME = (
    *_OF_EVERY_PACKET,
    "ip_tables_names",
    "ip6_tables_names",
    "route",
)
"""The files of /proc/net that are read each time, and compared as they are."""


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
    files: dict[str, int] = field(default_factory=dict)
    """A hash of what is costly to look into, and of all that was read, in this process: what is the
    same is not looked into again."""


NONE = Pulse()


def read(
    before: Pulse = NONE,
    *,
    of_machine: bool = False,
    sysctl: SysctlReader = by_path,
    full_from: float = 100.0,
) -> Pulse:
    """Return the pulse of this thread's namespace; what cannot be read is left out.

    ``before`` is the one of an interval ago: where nothing has changed since, it is returned as it
    is, and what has not changed is not looked into again. ``of_machine``: it is the machine's own
    namespace, which alone shows what all of them share. ``full_from``: the percent of conntrack's
    table from which on it counts as full.
    """
    said = _said(sysctl)
    if of_machine:
        said.update(shared.sums())
    files = {_ALL: hash((full_from, *said.items()))}
    if files[_ALL] == before.files.get(_ALL):
        return before
    counted = _counters(before, files, said)
    if of_machine:
        counted = {**counted, **{name: said[name] for name in shared.SUMS if name in said}}
    entries, limit = _number(said[_TABLE + "count"]), _number(said[_TABLE + "max"])
    states = dict(_states(before, files, said))
    if limit:
        over = 100 * entries / limit >= full_from
        states["conntrack's table"] = f"{full_from:g} % full" if over else "has room"
    return Pulse(counted, states, entries, limit, files)


def changed(before: Pulse, now: Pulse) -> tuple[str, ...]:
    """Return which states differ between two pulses, in words; empty: none does. Pure."""
    if before.states == now.states:
        return ()
    said = []
    for name in dict.fromkeys((*before.states, *now.states)):
        was, is_ = before.states.get(name, "none"), now.states.get(name, "none")
        if was != is_:
            said.append(f"{name}: {was} -> {is_}" if len(was + is_) < 60 else f"{name} changed")
    return tuple(said)


def steps(before: Pulse, now: Pulse) -> dict[str, int]:
    """Return how far each counter moved that did. One that begun anew did not. Pure."""
    if now.counters == before.counters:
        return {}
    return {
        name: count - before.counters[name]
        for name, count in now.counters.items()
        if count > before.counters.get(name, count)
    }


def counted(before: Pulse, now: Pulse) -> str:
    """Return which counters moved between two pulses, in words; empty: none did. Pure."""
    words = [f"{name} +{step}" for name, step in steps(before, now).items()]
    more = f" and {len(words) - _TOLD} more" if len(words) > _TOLD else ""
    return f"counters: {', '.join(words[:_TOLD])}{more}" if words else ""


def _said(sysctl: SysctlReader) -> dict[str, Any]:
    """Return all that each pulse asks for, as the kernel says it."""
    folder = os.open(PROC_NET, os.O_PATH | os.O_CLOEXEC)
    try:
        said: dict[str, Any] = {name: _content(name, folder) for name in _EACH_TIME}
        said[_ROUTES6] = _routes6(_content("rt6_stats", folder))
        said[_UDP] = _udp(_content("sockstat", folder))
    finally:
        os.close(folder)
    with contextlib.suppress(OSError, Unreadable):  # no nf_tables, or not permitted: a scan says so
        said[_RULESET] = nft.generation(time.monotonic() + _PATIENCE)
    for family in ("ip", "ip6"):
        if said[f"{family}_tables_names"]:
            with contextlib.suppress(OSError, Unreadable):
                for table in legacy.tables(family):
                    said[f"legacy {family} table {table}"] = legacy.state(family, table)
    with contextlib.suppress(OSError, Unreadable):
        until = time.monotonic() + _PATIENCE
        with Netlink(NETLINK_ROUTE, until, largest=SMALL, explained=False) as client:
            said[_LINKS] = route.configuration(client)
    for key in _SYSCTLS:
        said[key] = sysctl(key)
    return said


def _counters(before: Pulse, files: dict[str, int], said: dict[str, Any]) -> dict[str, int]:
    """Return the counters; add to ``files`` the hash of each file they are from."""
    files.update((name, hash(said[name])) for name in _OF_EVERY_PACKET)
    if before.files and all(before.files.get(name) == files[name] for name in _OF_EVERY_PACKET):
        files.update({name: was for name, was in before.files.items() if name not in files})
        return before.counters
    values = dict(before.counters)
    for name, parse in FILES:
        text = said.get(name) or _content(f"{PROC_NET}/{name}")
        files[name] = hash(text)
        if files[name] != before.files.get(name):
            with contextlib.suppress(Unreadable):
                values.update(parse(text.decode("utf-8", "replace")))
    return values


def _states(
    before: Pulse, files: dict[str, int], said: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield the states; add to ``files`` the hash of what is costly to look into."""
    if _RULESET in said:
        yield _RULESET, f"generation {said[_RULESET]}"
    for name, state in said.items():
        if name.startswith("legacy "):
            yield name, state
    yield "routes", said["route"].decode("ascii", "replace")
    if _LINKS in said:
        files[_LINKS] = hash(said[_LINKS])
        same = _LINKS in before.states and before.files.get(_LINKS) == files[_LINKS]
        with contextlib.suppress(Unreadable):
            yield _LINKS, before.states[_LINKS] if same else f"{route.lasting(said[_LINKS]):08x}"
    yield _ROUTES6, said[_ROUTES6].decode()
    if said[_UDP]:
        yield _UDP, said[_UDP].decode("ascii", "replace")
    for key in (*KEYS, _BRIDGED):
        if said[key]:
            yield key, said[key].decode("ascii", "replace").strip()


def _routes6(text: bytes) -> bytes:
    """Return what of rt6_stats stands for the routes there are."""
    numbers = text.split()
    return b" ".join(numbers[at] for at in _RT6 if at < len(numbers))


def _udp(text: bytes) -> bytes:
    """Return the sockets that sockstat counts; what it says of TCP is the whole machine's."""
    return text.partition(b"UDP: inuse ")[2].partition(b" ")[0]


def _content(path: str, folder: Optional[int] = None) -> bytes:
    """Return the first octets of a file; empty where there is none, or it may not be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return b""
    try:
        content = more = os.read(descriptor, _MOST)
        while len(more) >= _LAST and len(content) < _MOST:
            more = os.read(descriptor, _MOST)
            content += more
        return content
    except OSError:  # the namespace is ending
        return b""
    finally:
        os.close(descriptor)


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        return 0
