"""A TCP server that takes what is sent: ``python -m remedies.lab.taker ADDRESS PORT SIZE``.

It answers a client once it has SIZE octets of it. It prints ``ready`` once it listens, and goes on
until it is ended.
"""

from __future__ import annotations

import socket
import sys
import threading

ANSWER = b"taken"


def take(end: socket.socket, size: int) -> None:
    """Read ``size`` octets and answer."""
    with end:
        left = size
        while left > 0:
            got = len(end.recv(min(left, 65536)))
            if not got:
                return
            left -= got
        end.sendall(ANSWER)


def main(address: str, port: int, size: int) -> None:
    """Accept each connection, and serve it beside the others."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listener:
        print("ready", flush=True)
        while True:
            end, _ = listener.accept()
            threading.Thread(target=take, args=(end, size), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
