"""A UDP echo server as people write it: ``python -m remedies.lab.udp_server ADDRESS PORT``.

A process of its own, so that a scan finds a real process behind the socket. On a wildcard
address it answers as the routing table likes, which is the fault of ``udp-reply-source``.
It prints ``ready`` once it is bound, and serves until it is ended.
"""

from __future__ import annotations

import contextlib
import socket
import sys


def main(address: str, port: int) -> None:
    """Answer every datagram with itself."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((address, port))
        print("ready", flush=True)
        while True:
            datagram, peer = server.recvfrom(65536)
            with contextlib.suppress(OSError):  # a firewall keeps the answer in
                server.sendto(datagram, peer)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
