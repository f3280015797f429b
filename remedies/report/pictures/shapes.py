"""Stops of a packet's way and walks between them, and the stops that several pictures share."""

from __future__ import annotations

from typing import Optional

from remedies.report.evidence import Interfaces, towards
from remedies.report.record import Interface, Judgement
from remedies.values import dataclass


@dataclass(frozen=True)
class Stop:
    """One place on the way: what it is, and its addresses or rule."""

    title: str
    lines: tuple[str, ...]
    kind: str
    """``client``, ``link``, ``nat``, ``host``, ``server`` or ``rule``."""


@dataclass(frozen=True)
class Walk:
    """One packet, from stop to stop (indices); ``lost`` where it dies at its last stop."""

    start: int
    end: int
    label: str
    kind: str
    """``good``, ``lost`` or ``harm`` (what the host wrongly sends)."""


@dataclass(frozen=True)
class Path:
    """Stops from the client (top) to the server (bottom), and the packets in order."""

    summary: str
    """One sentence that says what the picture shows: its text alternative."""
    stops: tuple[Stop, ...]
    walks: tuple[Walk, ...]


def link(item: Optional[Interface], *lines: str) -> Stop:
    """Return the stop of an interface; of the host itself where it is not known."""
    if item is None:
        return Stop("This host", lines, "link")
    return Stop(f"{item.kind or 'interface'} {item.name}", lines, "link")


def between(address: str, interfaces: Interfaces) -> tuple[Stop, ...]:
    """Return the interface by which an address is reached, where that is known."""
    item = towards(address, interfaces)
    return () if item is None else (link(item, f"{item.address}/{item.prefix}"),)


def process(judgement: Judgement) -> tuple[str, ...]:
    """Return the process of a finding as a stop's line; none where it is not known."""
    name = judgement.details.get("process", "")
    container = judgement.details.get("container_name") or judgement.details.get("container")
    if not name:
        return ()
    return (f"{name} in container {container}" if container else name,)
