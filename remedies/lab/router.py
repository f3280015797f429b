"""An IPv6 router that announces itself: ``python -m remedies.lab.router LINK PREFIX``.

It sends an advertisement with a /64 prefix every 0.2 s (RFC 4861, 4.2 and 4.6.2) and prints
``ready`` after the first. Its default route lives half an hour, as most do (6.2.1).
"""

from __future__ import annotations

import select
import socket
import struct
import sys

PACE = 0.2
_ALL_NODES = "ff02::1"
_ADVERTISEMENT = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
"""Type, code, checksum (the kernel's), hop limit, flags, lifetime of the route, timers."""
_PREFIX = struct.Struct("!BBBBIII16s")


def main(link: str, prefix: str) -> None:
    """Announce until somebody ends this process."""
    option = _PREFIX.pack(3, 4, 64, 0xC0, 3600, 3600, 0, socket.inet_pton(socket.AF_INET6, prefix))
    to = (_ALL_NODES, 0, 0, socket.if_nametoindex(link))
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as router:
        # RFC 4861, 6.1.2: what comes from farther than the link is not believed.
        router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        router.sendto(_ADVERTISEMENT + option, to)
        print("ready", flush=True)
        while True:
            select.select([], [], [], PACE)
            router.sendto(_ADVERTISEMENT + option, to)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
