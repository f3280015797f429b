"""What all namespaces of a machine share and can run out of: neighbour tables, packet backlogs.

Read in the machine's own namespace alone: others do not show it, or show what is not theirs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TypeVar, Union

from remedies.facts import Asking, Unwatched, sysctl
from remedies.facts.counters import PROC_NET
from remedies.values import dataclass, field

TABLES = {"arp_cache": "net.ipv4.neigh.default", "ndisc_cache": "net.ipv6.neigh.default"}
"""Neighbour tables, and where their limits are (net/core/neighbour.c)."""
THRESHOLDS = ("gc_thresh1", "gc_thresh2", "gc_thresh3")
BACKLOG = "net.core.netdev_max_backlog"
SUMS = frozenset((*(f"{name}.table_fulls" for name in TABLES), "softnet.dropped"))
"""What :func:`sums` names."""
_DROPPED, _CPU = 1, 12  # columns of softnet_seq_show(), net/core/net-procfs.c

T = TypeVar("T")


@dataclass(frozen=True)
class Shared:
    """How far the machine's own counters of exhaustion moved within the window."""

    asked: bool = False
    """This is the machine's own namespace."""
    fulls: dict[str, int] = field(default_factory=dict)
    """Neighbour table to how often it had no room for an entry."""
    entries: dict[str, int] = field(default_factory=dict)
    """Neighbour table to its entries at the end, of all namespaces."""
    backlogs: dict[str, int] = field(default_factory=dict)
    """Processor number to the packets that its backlog had no room for."""
    limits: dict[str, int] = field(default_factory=dict)
    """The sysctls that decide, read where a counter moved."""
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class _SharedCounters:
    fulls: dict[str, int]
    entries: dict[str, int]
    backlogs: dict[str, int]
    unread: tuple[str, ...]


def watch(asking: Asking) -> Union[Unwatched[Shared], _SharedWatch]:
    """Take the first reading, in the machine's own namespace and for a window."""
    own = asking.host.netns == "host"
    return _SharedWatch() if own and asking.window > 0 else Unwatched(Shared())


class _SharedWatch:
    """Reads once at the beginning and once at the end; nothing to listen to in between."""

    def __init__(self) -> None:
        self._first = _read()

    def fileno(self) -> int:
        return -1

    def hear(self) -> None:
        """Nothing arrives."""

    def finish(self) -> Shared:
        first, last = self._first, _read()
        fulls, backlogs = _rise(first.fulls, last.fulls), _rise(first.backlogs, last.backlogs)
        keys = [f"{TABLES[name]}.{limit}" for name, n in fulls.items() if n for limit in THRESHOLDS]
        keys += [BACKLOG] if any(backlogs.values()) else []
        return Shared(
            True,
            fulls,
            last.entries,
            backlogs,
            _limits(keys),
            tuple(dict.fromkeys(first.unread + last.unread)),
        )

    def close(self) -> None:
        """Nothing is held."""


def sums() -> dict[str, int]:
    """Return the machine's counters of exhaustion now, but for those that could not be read."""
    now = _read()
    dropped = {"softnet.dropped": sum(now.backlogs.values())} if now.backlogs else {}
    return {**{f"{name}.table_fulls": count for name, count in now.fulls.items()}, **dropped}


def _limits(keys: list[str]) -> dict[str, int]:
    found = {}
    for key in keys:
        with contextlib.suppress(OSError, ValueError):  # the finding does without
            found[key] = int(sysctl.value(key))
    return found


def _rise(first: Mapping[str, int], last: Mapping[str, int]) -> dict[str, int]:
    return {key: last[key] - was for key, was in first.items() if key in last}


def _read() -> _SharedCounters:
    unread: list[str] = []
    fulls: dict[str, int] = {}
    entries: dict[str, int] = {}
    for name in TABLES:
        heading, rows = _file(f"stat/{name}", neighbour_rows, unread) or ([], [])
        if "table_fulls" in heading and rows:  # since Linux 4.3
            fulls[name] = sum(row[heading.index("table_fulls")] for row in rows)
            entries[name] = rows[0][heading.index("entries")]  # each row has that of the table
    backlogs = _file("softnet_stat", softnet_drops, unread) or {}
    return _SharedCounters(fulls, entries, backlogs, tuple(unread))


def _file(name: str, parse: Callable[[str], T], unread: list[str]) -> T | None:
    """Return what a file of /proc/net says; None where it is not there, or could not be read."""
    try:
        with open(f"{PROC_NET}/{name}", encoding="ascii", errors="replace") as file:
            return parse(file.read())
    except FileNotFoundError:  # no IPv6 in this kernel
        return None
    except (OSError, ValueError) as error:
        unread.append(f"/proc/net/{name}: {error}")
        return None


def neighbour_rows(text: str) -> tuple[list[str], list[list[int]]]:
    """Return the names of the columns, and the rows of numbers, one a processor.

    Raises ValueError where a row does not fit.
    """
    heading, *rows = [line.split() for line in text.splitlines()] or [[]]
    if any(len(row) != len(heading) for row in rows):
        raise ValueError("rows and heading differ in length")
    return heading, [[int(cell, 16) for cell in row] for row in rows]


def softnet_drops(text: str) -> dict[str, int]:
    """Return processor number to drops: all columns are hexadecimal, those to the right are newer.

    Raises ValueError where a row does not fit.
    """
    found = {}
    for number, line in enumerate(text.splitlines()):
        row = [int(cell, 16) for cell in line.split()]
        if len(row) <= _DROPPED:
            raise ValueError("a row is too short")
        found[str(row[_CPU] if len(row) > _CPU else number)] = row[_DROPPED]
    return found
