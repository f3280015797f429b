"""A UDP echo server as people write it: ``udp_server ADDRESS PORT [BYTES [SECONDS]]``.

A process of its own, so that a scan finds a real process behind the socket. On a wildcard
address it answers as the routing table likes, which is the fault of ``udp-reply-source``.
It prints ``ready`` once it is bound, and serves until it is ended.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time


def main(address: str, port: int, room: int = 0, work: float = 0.0) -> None:
    """Answer every datagram with itself.

    ``room``: bytes of receive buffer to ask for, 0: the kernel's default. ``work``: seconds that an
    answer takes, in which nothing is read.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        if room:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        server.bind((address, port))
        print("ready", flush=True)
        while True:
            datagram, peer = server.recvfrom(65536)
            time.sleep(work)
            with contextlib.suppress(OSError):  # a firewall keeps the answer in
                server.sendto(datagram, peer)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *map(int, sys.argv[3:4]), *map(float, sys.argv[4:]))
