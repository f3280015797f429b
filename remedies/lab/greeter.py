"""A TCP server that greets who connects: ``python -m remedies.lab.greeter ADDRESS PORT BACKLOG``.

With ``stuck`` at the end it listens and accepts nobody, as a program does that hangs; with
``last`` it lets each client close first. It prints ``ready`` once it listens, and goes on until it
is ended.
"""

from __future__ import annotations

import signal
import socket
import sys

GREETING = b"hello"


def main(address: str, port: int, backlog: int, how: str) -> None:
    """Accept one connection after another, greet and close it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family, backlog=backlog) as listener:
        print("ready", flush=True)
        while True:
            if how == "stuck":
                signal.pause()
            end, _ = listener.accept()
            with end:
                end.sendall(GREETING)
                if how == "last":
                    end.recv(1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), (*sys.argv[4:], "")[0])
