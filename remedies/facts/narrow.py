"""By which link packets would have left that were too big for it.

Looked up only if some were dropped for that while the window lasted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remedies.errors import Unreadable
from remedies.facts.drops import SeenDrop, of_reason
from remedies.netlink import route
from remedies.netlink.links import Links
from remedies.netlink.socket import NETLINK_ROUTE, Netlink
from remedies.values import dataclass

if TYPE_CHECKING:
    from remedies.facts import Asking

AFTER = ("drops", "links")

TOO_BIG = "PKT_TOO_BIG"


@dataclass(frozen=True)
class NarrowWay:
    """A packet that was too big, and the link that it was too big for."""

    drop: SeenDrop
    link: str = ""
    """Empty: there is no way now."""
    mtu: int = 0
    """Of that link; a route may want less. 0: not known."""


@dataclass(frozen=True)
class Narrow:
    """The packets that were looked into, most packets first."""

    found: tuple[NarrowWay, ...] = ()


def read(asking: Asking) -> Narrow:
    """Read the fact. Raises Unreadable where rtnetlink does not answer."""
    links, big = asking.earlier(Links) or Links(), of_reason(asking, TOO_BIG)
    if not big:
        return Narrow()
    try:
        with Netlink(NETLINK_ROUTE, asking.deadline()) as client:
            return Narrow(tuple(_way(client, links, drop) for drop in big))
    except OSError as error:
        raise Unreadable(f"routes: {error.strerror}") from error


def _way(client: Netlink, links: Links, drop: SeenDrop) -> NarrowWay:
    try:
        index = route.route_get(client, drop.way.destination).link
    except OSError:  # there is none
        return NarrowWay(drop)
    mtu = next((link.mtu for link in links.links if link.index == index), 0)
    return NarrowWay(drop, links.name(index), mtu)
