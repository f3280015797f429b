"""Whether a packet was made in this namespace or is merely passing through it.

A reset that is *forwarded*, from a container that ended its connection so, leaves by the same
links and with the same addresses as one made here. It is told apart by its time to live: a router
has taken one off (RFC 1812, 5.3.1), what is made here has this namespace's own default. What
arrives is for this namespace where its destination is a local address.

Two parts of the kernel make resets here that are equal byte for byte: TCP, which answers a segment
that no socket takes, and netfilter's REJECT. They differ in who computes the checksum. TCP does it
itself for IPv4 (ip_send_unicast_reply() in net/ipv4/ip_output.c) and leaves it to the device for
IPv6 (tcp_v6_send_response() in net/ipv6/tcp_ipv6.c); REJECT the other way round
(nf_reject_ip_tcphdr_put() in nf_reject_ipv4.c, nf_reject_ip6_tcphdr_put() in nf_reject_ipv6.c). A
socket that ends its own connection by a reset leaves it to the device, too. For a device that
computes none the kernel puts it in before the packet is heard, and nothing can be told.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import time
from typing import Optional

from remedies.errors import Unreadable
from remedies.netlink import route
from remedies.netlink.socket import NETLINK_ROUTE, Netlink
from remedies.tap.packets import REFUSED, SYN, Heard

FORWARDED = "forwarded"
_SIOCETHTOOL = 0x8946  # include/uapi/linux/sockios.h
_GTXCSUM = 0x16  # ETHTOOL_GTXCSUM, include/uapi/linux/ethtool.h; anybody may ask
_FRESH = 2.0
"""Seconds after which the local addresses are read again, when they are asked for."""


class Origin:
    """Knows the namespace's defaults and addresses. Reads /proc/sys and rtnetlink when asked."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._ttls: dict[tuple[bool, int], int] = {}
        self._sums: dict[int, bool] = {}
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

    def answers(self, heard: Heard, link: int) -> Optional[bool]:
        """Tell whether TCP made a reset as its answer to a segment; None where nobody can tell.

        False: REJECT made it, or with IPv4 a socket that ended its own connection.
        """
        if not heard.summed:
            return ":" in heard.source
        return ":" not in heard.source if self._computes(link) else None

    def _computes(self, link: int) -> bool:
        """Tell whether a device puts checksums into what it sends; not where it cannot be asked."""
        if link not in self._sums:
            import ctypes

            self._sums[link] = False
            with (
                contextlib.suppress(OSError),
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s,
            ):
                name = socket.if_indextoname(link).encode()
                value = bytearray(struct.pack("=II", _GTXCSUM, 0))  # struct ethtool_value
                address = (ctypes.c_char * 8).from_buffer(value)
                # struct ifreq: the name, then a pointer
                request = struct.pack("16sP", name, ctypes.addressof(address))
                fcntl.ioctl(s, _SIOCETHTOOL, request)
                self._sums[link] = struct.unpack("=II", value)[1] != 0
        return self._sums[link]

    def local(self) -> frozenset[str]:
        """Return the local addresses, at most two seconds old."""
        now = time.monotonic()
        if now - self._read_at > _FRESH:
            self._read_at = now
            self._local = self._addresses()
        return self._local

    def _addresses(self) -> frozenset[str]:
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
