"""Addresses, flows and interfaces read off the evidence of a judgement. Pure.

Evidence may come from a facts file that somebody edited: what does not parse is None or empty.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple, Optional

from remedies.report.record import Interface, Judgement

Interfaces = tuple[Interface, ...]

_END = r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([0-9.]+)):(\d{1,5})"
_WAY = re.compile(rf"{_END} -> {_END}")
_FLOW = re.compile(r"src=(\S+) dst=(\S+) sport=(\d{1,5}) dport=(\d{1,5})")
_SOCKET = re.compile(r"([0-9A-Fa-f:.%\w]+) port (\d{1,5}) to ([0-9A-Fa-f:.%\w]+) port (\d{1,5})")


class PathEnd(NamedTuple):
    """An address and a port."""

    address: str
    port: str

    def __str__(self) -> str:
        """Return it as people write it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


Way = tuple[PathEnd, PathEnd]
"""Source and destination."""


def values(judgement: Judgement, key: str) -> Iterator[tuple[str, str]]:
    """Yield value and note of each piece of evidence with this key."""
    return ((e.value, e.note) for e in judgement.evidence if e.key == key)


def value(judgement: Judgement, key: str) -> tuple[str, str]:
    """Return value and note of the first evidence with this key; empty where there is none."""
    return next(values(judgement, key), ("", ""))


def way(text: str) -> Optional[Way]:
    """Return source and destination of ``A:p -> B:q`` somewhere in a text."""
    found = _WAY.search(text)
    if not found:
        return None
    six, four, port, six_to, four_to, port_to = found.groups()
    return PathEnd(six or four, port), PathEnd(six_to or four_to, port_to)


def flow(text: str) -> Optional[Way]:
    """Return source and destination of a flow as conntrack(8) prints it."""
    found = _FLOW.search(text)
    if not found:
        return None
    source, destination, sport, dport = found.groups()
    return PathEnd(source, sport), PathEnd(destination, dport)


def socket(text: str) -> Optional[Way]:
    """Return the local end and the peer of ``A port p to B port q``."""
    found = _SOCKET.fullmatch(text)
    return (PathEnd(*found.group(1, 2)), PathEnd(*found.group(3, 4))) if found else None


def carrier(address: str, interfaces: Interfaces) -> Optional[Interface]:
    """Return the interface that has this address."""
    return next((item for item in interfaces if item.address == address), None)


def towards(address: str, interfaces: Interfaces) -> Optional[Interface]:
    """Return the interface in whose subnet an address lies: how the host reaches it."""
    try:
        wanted = ipaddress.ip_address(address)
        for item in interfaces:
            if wanted in ipaddress.ip_network(f"{item.address}/{item.prefix}", strict=False):
                return item
    except ValueError:
        return None
    return None
