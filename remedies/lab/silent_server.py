"""A UDP receiver that never answers: ``python -m remedies.lab.silent_server EAR PORT``.

It listens on every address, as syslog does, and tells what it takes to the Unix datagram socket
EAR, if somebody listens there. It prints ``ready`` once it is bound, and takes until it is ended.
"""

from __future__ import annotations

import contextlib
import socket
import sys


def main(ear: str, port: int) -> None:
    """Take every datagram and say nothing to its sender."""
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller,
    ):
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::", port))
        print("ready", flush=True)
        while True:
            taken = server.recv(65536)
            with contextlib.suppress(OSError):  # nobody listens now
                teller.sendto(taken, ear)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
