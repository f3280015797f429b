"""Packets that the kernel dropped in this namespace while the window lasted, with its own reason.

The counting is :mod:`remedies.tap.drops`, which ``remedy trace`` shares. Which condition a drop is
a sign of is in :mod:`remedies.facts.drop_signs`.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from typing import Optional

from remedies.bpf.symbols import functions
from remedies.errors import Unreadable
from remedies.facts import Asking, Unwatched, Watch
from remedies.namespaces.netns import cookie
from remedies.netlink.flow import Tuple
from remedies.tap.drops import Drop, DropCounter
from remedies.values import dataclass

NO_REASON = "NOT_SPECIFIED"
"""The kernel gives no reason; its function has to tell."""
MOST = 32
"""Conversations that are kept of one reason, those with most packets."""


@dataclass(frozen=True)
class SeenDrop:
    """Packets of one conversation that were dropped for one reason in one place."""

    reason: str
    """Name of enum skb_drop_reason without its prefix (include/net/dropreason-core.h)."""
    protocol: str
    """``tcp``, ``udp``, ``icmp`` ..., or a protocol's number."""
    way: Tuple
    """Addresses and ports as the packet had them there: after DNAT, where that was done before."""
    count: int
    state: str = ""
    """What conntrack held of it: ``new``, ``established``, ``established, reply``, ``related`` ...;
    empty: not asked yet, or INVALID."""
    link: str = ""
    """Name of the interface that it was on, empty for none."""
    flags: int = 0
    """TCP's flags."""
    place: str = ""
    """The kernel's function, where it gives no reason."""
    icmp: Optional[tuple[int, int]] = None
    """Type and code of an ICMP message."""


@dataclass(frozen=True)
class Drops:
    """What the kernel dropped, most packets first."""

    seen: tuple[SeenDrop, ...] = ()
    listened: float = 0.0
    """Seconds; 0: nobody listened, because the window was 0 or for a reason in ``unread``."""
    lost: int = 0
    """Drops that the kernel counted and that found no room."""
    unread: tuple[str, ...] = ()


class _DropListener:
    """Counts in the kernel; nothing arrives until the window is over."""

    def __init__(self, cache: Optional[str]) -> None:
        self._counter = DropCounter(cookie(), cache)
        self._begin = time.monotonic()

    def fileno(self) -> int:
        return -1

    def hear(self) -> None:
        """Nothing arrives."""

    def finish(self) -> Drops:
        kept = _most(drop for drop in self._counter.read() if drop.packet.way is not None)
        lost = self._counter.lost()
        listened = time.monotonic() - self._begin
        self.close()
        places = functions({drop.place for drop in kept if drop.reason == NO_REASON})
        links = dict(socket.if_nameindex())
        return Drops(
            seen=tuple(
                _seen(drop, drop.packet.way, links, places)
                for drop in kept
                if drop.packet.way is not None
            ),
            listened=round(listened, 3),
            lost=lost,
            unread=(f"{lost} dropped packets were not examined (too many kinds at once)",)
            if lost
            else (),
        )

    def close(self) -> None:
        self._counter.close()


def of_reason(asking: Asking, reason: str, most: int = 16) -> tuple[SeenDrop, ...]:
    """Return the drops of one reason that a fact looks into, most packets first; often none."""
    drops = asking.earlier(Drops)
    return tuple(d for d in drops.seen if d.reason == reason)[:most] if drops else ()


def _most(drops: Iterable[Drop]) -> list[Drop]:
    """Return the drops with the highest counts, a bounded number of each reason."""
    kept: list[Drop] = []
    left: dict[str, int] = {}
    for drop in sorted(drops, key=lambda each: -each.count):
        left[drop.reason] = left.get(drop.reason, MOST) - 1
        if left[drop.reason] >= 0:
            kept.append(drop)
    return kept


def _seen(drop: Drop, way: Tuple, links: dict[int, str], places: dict[int, str]) -> SeenDrop:
    return SeenDrop(
        reason=drop.reason,
        protocol=drop.packet.protocol,
        way=way,
        count=drop.count,
        state=drop.state,
        link=links.get(drop.link, ""),
        flags=drop.packet.flags,
        place=places.get(drop.place, "") if drop.reason == NO_REASON else "",
        icmp=drop.packet.icmp,
    )


def watch(asking: Asking) -> Watch[Drops]:
    """Begin to count; with a window of 0 nobody does, and nothing is loaded into the kernel.

    Where this kernel or its permissions do not allow it, the fact says why.
    """
    if asking.window <= 0:
        return Unwatched(Drops())
    try:
        return _DropListener(asking.cache)
    except (OSError, Unreadable) as error:
        return Unwatched(Drops(unread=(f"dropped packets cannot be heard: {error}",)))
