"""By which link packets would have left that were too big for it, and where a clamp is in force.

Looked up only if some were dropped for that while the window lasted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remedies.errors import Unreadable
from remedies.facts.drops import SeenDrop, of_reason
from remedies.facts.netfilter import open_stores
from remedies.netfilter.walk import own_chains, resource_of
from remedies.netlink import route
from remedies.netlink.links import Links
from remedies.netlink.socket import NETLINK_ROUTE, Netlink
from remedies.values import dataclass, field

if TYPE_CHECKING:
    from remedies.facts import Asking

AFTER = ("drops", "links")

TOO_BIG = "PKT_TOO_BIG"
CLAMP = "remedy:clamp-mss"
"""The comment of our rules that lower the MSS of connections by a link (``clamp-mss``)."""


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
    clamped: dict[str, str] = field(default_factory=dict)
    """The links by which our own rules lower the MSS of new TCP connections, and the address of
    each rule's resource."""


def read(asking: Asking) -> Narrow:
    """Read the fact. Raises Unreadable where routes or rules cannot be read."""
    links, big = asking.earlier(Links) or Links(), of_reason(asking, TOO_BIG)
    if not big:
        return Narrow()
    try:
        with Netlink(NETLINK_ROUTE, asking.deadline()) as client:
            found = tuple(_way(client, links, drop) for drop in big)
    except OSError as error:
        raise Unreadable(f"routes: {error.strerror}") from error
    return Narrow(found, _clamped(asking.deadline()))


def _way(client: Netlink, links: Links, drop: SeenDrop) -> NarrowWay:
    try:
        index = route.route_get(client, drop.way.destination).link
    except OSError:  # there is none
        return NarrowWay(drop)
    mtu = next((link.mtu for link in links.links if link.index == index), 0)
    return NarrowWay(drop, links.name(index), mtu)


def _clamped(deadline: float) -> dict[str, str]:
    """Return the links that our own rules name which clamp, and their resources."""
    stores, _ = open_stores(deadline)
    return {
        link: resource_of(base, chain)
        for store in stores
        for base in store.bases()
        if base.hook == "forward"
        for chain in own_chains(store, base)
        for raw in store.raw(base.family, base.table, chain)
        for step in store.decode(base.family, base.table, raw)
        if step.comment == CLAMP
        for link in (*step.match.in_interfaces, *step.match.out_interfaces)
    }
