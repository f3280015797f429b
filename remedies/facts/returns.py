"""By which link answers would leave, for packets that the reverse path filter dropped.

Looked up only if it dropped some while the window lasted.
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

BY_FILTER = "IP_RPFILTER"


@dataclass(frozen=True)
class ReturnWay:
    """A packet that the reverse path filter dropped, and the way back to its source."""

    drop: SeenDrop
    link: str = ""
    """Name of the link by which an answer would leave; empty: there is no way back."""
    mark: int = 0
    """A mark that a routing rule asks for, by which it would leave where the packet came from; 0:
    there is none."""


@dataclass(frozen=True)
class Returns:
    """The packets that were looked into, most packets first."""

    found: tuple[ReturnWay, ...] = ()


def read(asking: Asking) -> Returns:
    """Read the fact. Raises Unreadable where rtnetlink does not answer."""
    links, filtered = asking.earlier(Links) or Links(), of_reason(asking, BY_FILTER)
    if not filtered:
        return Returns()
    try:
        with Netlink(NETLINK_ROUTE, asking.deadline(), strict=True) as client:
            marks = dict.fromkeys(rule.mark for rule in route.rules(client) if rule.mark)
            return Returns(tuple(_way(client, links, drop, marks) for drop in filtered))
    except OSError as error:
        raise Unreadable(f"routes: {error.strerror}") from error


def _way(client: Netlink, links: Links, drop: SeenDrop, marks: dict[int, None]) -> ReturnWay:
    def back(mark: int = 0) -> str:
        try:
            found = route.route_get(client, drop.way.source, drop.way.destination, mark=mark)
        except OSError:  # there is none
            return ""
        return links.name(found.link)

    by_mark = (mark for mark in marks if back(mark) == drop.link)
    return ReturnWay(drop, back(), next(by_mark, 0))
