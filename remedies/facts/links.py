"""Links and local addresses, from rtnetlink (sysfs does not follow setns)."""

from __future__ import annotations

from remedies.errors import Unreadable
from remedies.facts import Asking
from remedies.netlink import route
from remedies.netlink.links import Address, Link, Links
from remedies.netlink.socket import NETLINK_ROUTE, Netlink

_SCOPES = {253: "link", 254: "host"}  # enum rt_scope_t, include/uapi/linux/rtnetlink.h


def read(asking: Asking) -> Links:
    """Read interfaces and addresses; raise Unreadable where rtnetlink does not answer."""
    try:
        with Netlink(NETLINK_ROUTE, asking.deadline()) as client:
            links = route.links(client)
            addresses = route.addresses(client)
    except OSError as error:
        raise Unreadable(f"links and addresses: {error.strerror}") from error
    return Links(
        links=tuple(
            Link(
                index=raw.number,
                name=raw.name,
                kind=raw.kind,
                up=bool(raw.flags & route.IFF_UP),
                master=raw.master,
                loopback=bool(raw.flags & route.IFF_LOOPBACK),
                mtu=raw.mtu,
            )
            for raw in links
        ),
        addresses=tuple(
            Address(
                raw.address,
                raw.prefix,
                raw.link,
                _SCOPES.get(raw.scope, "global"),
                raw.protocol == route.IFAPROT_KERNEL_RA,
            )
            for raw in addresses
        ),
    )
