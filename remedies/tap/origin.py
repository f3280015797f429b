"""Whether a packet was made in this namespace or is merely passing through it.

A reset that is *forwarded*, from a container that ended its connection so, leaves by the same
links and with the same addresses as one made here. It is told apart by its time to live: a router
has taken one off (RFC 1812, 5.3.1), what is made here has this namespace's own default. What
arrives is for this namespace where its destination is a local address.
"""

from __future__ import annotations

import socket
import time

from remedies.tap.packets import REFUSED, SYN, Heard

FORWARDED = "forwarded"
_FRESH = 2.0
"""Seconds after which the local addresses are read again, when they are asked for."""


class Origin:
    """Knows the namespace's defaults and addresses. Reads /proc/sys and rtnetlink when asked."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._ttls: dict[tuple[bool, int], int] = {}
        self._local: frozenset[str] = frozenset()
        self._read_at = float("-inf")
        self.unread: dict[str, None] = {}
        """What could not be read, and why."""

    def group(self, heard: Heard, link: int) -> str:
        """Return the packet's event, or FORWARDED where it is only passing through."""
        if heard.event == SYN:  # a SYN that is tried again is of interest whoever made it
            return heard.event
        if heard.event == REFUSED:
            here = heard.destination in self.local()
        else:
            here = heard.ttl == self._default_ttl(":" in heard.source, link)
        return heard.event if here else FORWARDED

    def local(self) -> frozenset[str]:
        """Return the local addresses, at most two seconds old."""
        now = time.monotonic()
        if now - self._read_at > _FRESH:
            self._read_at = now
            self._local = self._addresses()
        return self._local

    def _addresses(self) -> frozenset[str]:
        from remedies.errors import Unreadable
        from remedies.netlink import route
        from remedies.netlink.socket import NETLINK_ROUTE, Netlink

        try:
            with Netlink(NETLINK_ROUTE, time.monotonic() + 1.0) as client:
                return frozenset(item.address for item in route.addresses(client))
        except (OSError, Unreadable) as error:
            self.unread[f"local addresses: {error}"] = None
            return self._local

    def _default_ttl(self, v6: bool, link: int) -> int:
        """Return the TTL or hop limit of what this namespace makes itself; -1 where unreadable."""
        key = (v6, link if v6 else 0)
        if key not in self._ttls:
            try:
                name = "ipv4/ip_default_ttl"
                if v6:
                    name = f"ipv6/conf/{socket.if_indextoname(link)}/hop_limit"
                with open(f"/proc/sys/net/{name}", encoding="ascii") as file:
                    self._ttls[key] = int(file.read())
            except (OSError, ValueError) as error:
                self.unread[f"default time to live: {error}"] = None
                return -1
        return self._ttls[key]
