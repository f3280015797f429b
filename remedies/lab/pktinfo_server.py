"""A UDP echo server that does it right: ``python -m remedies.lab.pktinfo_server PORT``.

It listens on every address, IPv4 and IPv6, asks for each datagram's destination (IP_PKTINFO,
IPV6_RECVPKTINFO: ip(7), ipv6(7)) and answers from there. It prints ``ready`` once it is bound,
and serves until it is ended.
"""

from __future__ import annotations

import socket
import sys

_IP_PKTINFO = 8  # include/uapi/linux/in.h; socket.IP_PKTINFO came with Python 3.13


def main(port: int) -> None:
    """Answer every datagram with itself, from the address it was sent to."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        server.bind(("::", port))
        print("ready", flush=True)
        while True:
            datagram, about, _, peer = server.recvmsg(65536, 256)
            server.sendmsg([datagram], [_source(*item) for item in about], 0, peer)


def _source(level: int, kind: int, value: bytes) -> tuple[int, int, bytes]:
    """Return a received PKTINFO as the one to send: its address, and no interface."""
    if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
        # struct in_pktinfo: interface, local address (what sending takes), destination address
        return level, kind, bytes(4) + value[8:12] + bytes(4)
    return level, kind, value[:16] + bytes(4)  # struct in6_pktinfo: address, interface


if __name__ == "__main__":
    main(int(sys.argv[1]))
