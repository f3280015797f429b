"""Conntrack, snmp and netstat counters at the beginning and the end of the window."""

from __future__ import annotations

import functools

from remedies.errors import Unreadable
from remedies.facts import Asking
from remedies.values import dataclass, field

# /proc/net is the namespace of the process's first thread; this one is of the thread that asks.
PROC_NET = "/proc/thread-self/net"

CONNTRACK = frozenset(("drop", "early_drop", "insert_failed", "invalid"))
"""Columns of /proc/net/stat/nf_conntrack; ``entries`` is no counter and is left alone."""
SNMP = frozenset(
    (
        "Icmp.InDestUnreachs",
        "Icmp.OutRedirects",
        "Ip.FragFails",
        "Ip.InAddrErrors",
        "Tcp.OutRsts",
        "Udp.RcvbufErrors",
    )
)
NETSTAT = frozenset(("TcpExt.IPReversePathFilter", "TcpExt.ListenDrops"))
SNMP6 = frozenset(
    ("Icmp6.InDestUnreachs", "Icmp6.OutRedirects", "Ip6.FragFails", "Udp6.RcvbufErrors")
)
NAMES = frozenset((*(f"nf_conntrack.{name}" for name in CONNTRACK), *SNMP, *NETSTAT, *SNMP6))
"""Every counter that is read, as :class:`Counters` names it."""


@dataclass(frozen=True)
class Counters:
    """Cumulative counters of this namespace: a fault is a delta, never a total."""

    first: dict[str, int] = field(default_factory=dict)
    """``nf_conntrack.invalid``, ``Tcp.OutRsts``, ``TcpExt.ListenDrops``: file and column name."""
    last: dict[str, int] = field(default_factory=dict)
    unread: tuple[str, ...] = ()

    def delta(self, key: str) -> int | None:
        """Return how far ``key`` moved over the window; None where it could not be read."""
        if key in self.first and key in self.last:
            return self.last[key] - self.first[key]
        return None


def conntrack_rows(text: str) -> dict[str, int]:
    """Return the wanted columns of stat/nf_conntrack, summed over its rows (one a CPU).

    Columns go by the name in the heading, because they have moved and been renamed (Linux 5.10,
    5.15); values are hexadecimal (ct_cpu_seq_show(), net/netfilter/nf_conntrack_standalone.c).
    Raises Unreadable where heading and rows do not fit.
    """
    heading, *rows = [line.split() for line in text.splitlines()] or [[]]
    sums = {f"nf_conntrack.{name}": 0 for name in heading if name in CONNTRACK}
    try:
        for row in rows:
            for name, cell in zip(heading, row):
                if name in CONNTRACK:
                    sums[f"nf_conntrack.{name}"] += int(cell, 16)
    except ValueError as error:
        raise Unreadable(f"stat/nf_conntrack: {error}") from error
    return sums


def paired_lines(text: str, wanted: frozenset[str]) -> dict[str, int]:
    """Return the wanted ``Group.Name`` values of a file of heading and value lines (snmp, netstat).

    Raises Unreadable where a value is no number.
    """
    groups = {key.partition(".")[0] for key in wanted}
    found: dict[str, int] = {}
    heading: list[str] = []
    for line in text.splitlines():
        group, _, rest = line.partition(":")
        if group not in groups:
            continue
        if not heading:
            heading = rest.split()
            continue
        for name, cell in zip(heading, rest.split()):
            if f"{group}.{name}" in wanted:
                found[f"{group}.{name}"] = _number(group, cell)
        heading = []
    return found


def single_lines(text: str, wanted: frozenset[str]) -> dict[str, int]:
    """Return the wanted values of snmp6: one ``Icmp6Name value`` a line."""
    keys = {key.replace(".", "", 1): key for key in wanted}
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, cell = line.partition(" ")
        if name.rstrip("\t") in keys:
            found[keys[name.rstrip("\t")]] = _number(name, cell.strip())
    return found


def wanted_now(wanted: frozenset[str]) -> dict[str, int]:
    """Return the wanted counters of snmp, netstat and snmp6 now, but for those a kernel has not.

    Raises OSError and Unreadable.
    """
    found: dict[str, int] = {}
    for name, parse in (("snmp", paired_lines), ("netstat", paired_lines), ("snmp6", single_lines)):
        with open(f"{PROC_NET}/{name}", encoding="utf-8", errors="replace") as file:
            found.update(parse(file.read(), wanted))
    return found


def _number(where: str, cell: str) -> int:
    try:
        return int(cell)
    except ValueError as error:
        raise Unreadable(f"{where}: {error}") from error


FILES = (
    ("stat/nf_conntrack", conntrack_rows),
    ("snmp", functools.partial(paired_lines, wanted=SNMP)),
    ("netstat", functools.partial(paired_lines, wanted=NETSTAT)),
    ("snmp6", functools.partial(single_lines, wanted=SNMP6)),
)
"""The files of /proc/net, and what reads the wanted counters from the text of each."""


def _snapshot() -> tuple[dict[str, int], tuple[str, ...]]:
    """Return every wanted counter now, and what could not be read."""
    values: dict[str, int] = {}
    unread: list[str] = []
    for name, parse in FILES:
        try:
            with open(f"{PROC_NET}/{name}", encoding="utf-8", errors="replace") as file:
                values.update(parse(file.read()))
        except OSError as error:
            unread.append(f"/proc/net/{name}: {error.strerror}")
        except Unreadable as error:
            unread.append(f"/proc/net/{name}: {error}")
    return values, tuple(unread)


class _CounterWatch:
    """Reads once at the beginning and once at the end; nothing to listen to in between."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._first, self._unread = _snapshot()

    def fileno(self) -> int:
        return -1

    def hear(self) -> None:
        """Nothing arrives."""

    def finish(self) -> Counters:
        if self._window <= 0:
            return Counters(self._first, dict(self._first), self._unread)
        last, unread = _snapshot()
        return Counters(self._first, last, tuple(dict.fromkeys(self._unread + unread)))

    def close(self) -> None:
        """Nothing is held."""


def watch(asking: Asking) -> _CounterWatch:
    """Take the first reading. With a window of 0 the last is the same one: no delta is claimed."""
    return _CounterWatch(asking.window)
