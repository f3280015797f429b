"""What an administrator labels for rules to ask for: groups of links, and realms of routes.

Attributes are those of include/uapi/linux/{if_link,rtnetlink,fib_rules}.h. Needs no privilege.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

from remedies.netlink.route import (
    RTA_MULTIPATH,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTM_GETRULE,
    next_hops,
)
from remedies.netlink.socket import Netlink, attributes

_IFINFO, _ROUTE = 16, 12
"""Octets of struct ifinfomsg, and of rtmsg and fib_rule_hdr, before the attributes."""
_IFNAME, _GROUP = 3, 27  # IFLA_IFNAME, IFLA_GROUP
_FLOW = 11  # RTA_FLOW of a route or a next hop, FRA_FLOW of a rule
_IPV4 = bytes((socket.AF_INET,)).ljust(_ROUTE, b"\0")


def groups(client: Netlink) -> Iterator[tuple[str, int]]:
    """Yield name and group of every interface. Raises OSError and Unreadable."""
    for _, payload in client.table(RTM_GETLINK, bytes(_IFINFO)):
        found = dict(attributes(payload, _IFINFO))
        name = found.get(_IFNAME, b"").partition(b"\0")[0].decode(errors="replace")
        yield name, int.from_bytes(found.get(_GROUP, b""), sys.byteorder)


def realms(client: Netlink) -> bool:
    """Tell whether a route or a routing rule gives packets a realm: those of IPv4 alone can.

    A full routing table streams by once. Raises as :func:`groups` does.
    """
    return any(
        _gives(payload)
        for kind in (RTM_GETRULE, RTM_GETROUTE)
        for _, payload in client.dump(kind, _IPV4)
    )


def _gives(payload: bytes) -> bool:
    return any(
        number == _FLOW
        or (number == RTA_MULTIPATH and any(_FLOW in dict(hop) for _, hop in next_hops(value)))
        for number, value in attributes(payload, _ROUTE)
    )
