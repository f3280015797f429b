"""A UDP server that speaks after a pause, and clients that are silent for longer.

``python -m remedies.lab.late_voice serve ADDRESS PORT PAUSE`` speaks to each client PAUSE seconds
after its first word, and goes on for :data:`GOES_ON` seconds, to the address that it saw then, as
a SIP server does; ``... call ADDRESS PORT PAUSE`` begins a client every :data:`EVERY` seconds. It
says a word, is silent for PAUSE and a little more, and speaks again for a while from the same port.
Both print ``ready`` and go on until they are ended.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from typing import Any

EVERY = 0.25
GOES_ON = 2.0
_LATER = 0.5


def serve(address: str, port: int, pause: float) -> None:
    """Speak to everybody whose time has come."""
    seen: dict[Any, float] = {}
    with _socket(address) as server:
        server.bind((address, port))
        server.settimeout(EVERY / 2)
        print("ready", flush=True)
        while True:
            with contextlib.suppress(OSError):
                seen.setdefault(server.recvfrom(100)[1], time.monotonic())
            now = time.monotonic()
            for peer, since in list(seen.items()):
                if now > since + pause:
                    with contextlib.suppress(OSError):
                        server.sendto(b"notice", peer)
                if now > since + pause + GOES_ON:
                    del seen[peer]


def call(address: str, port: int, pause: float) -> None:
    """Begin clients, and have each speak again when the server has spoken."""
    clients: list[tuple[float, socket.socket]] = []
    print("ready", flush=True)
    while True:
        made = _socket(address)
        made.connect((address, port))
        clients.append((time.monotonic(), made))
        made.send(b"here")
        for since, client in clients:
            if time.monotonic() > since + pause + _LATER:
                with contextlib.suppress(OSError):
                    client.send(b"again")
        while clients[0][0] + pause + GOES_ON + _LATER < time.monotonic():
            clients.pop(0)[1].close()
        time.sleep(EVERY)


def _socket(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)


if __name__ == "__main__":
    role, where, on, late = sys.argv[1:]
    (serve if role == "serve" else call)(where, int(on), float(late))
