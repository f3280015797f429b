"""A TCP client behind a box that rewrites sequence numbers and forgets SACK blocks.

``python -m remedies.lab.renumbered serve ADDRESS PORT`` accepts connections and reads from them;
``... ask ADDRESS PORT OFF`` opens one and sends a request on it, again and again, whose SACK block
lies OFF bytes from where it should. Both print ``ready`` and go on until they are ended.

The request is a segment of our own making beside a connection of the kernel's, whose numbers
TCP_REPAIR (include/uapi/linux/tcp.h) tells.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
import time
from collections.abc import Callable

from remedies.lab.segment import Position, forge
from remedies.lab.world import DEADLINE

REQUEST = b"GET / HTTP/1.0\r\n\r\n"
EVERY = 0.15
"""Seconds until the request is sent again."""
_REPAIR, _REPAIR_QUEUE, _QUEUE_SEQ = 19, 20, 21
_RECEIVED, _SENT = 1, 2
_SILENTLY = -1
"""TCP_REPAIR_OFF_NO_WP: repairing ends without a segment."""

Open = Callable[[int, int], socket.socket]
"""Makes a socket of a type and protocol in the client's namespace."""


def numbers(connection: socket.socket) -> Position:
    """Return where the end of a connection stands; it goes on as it was."""
    connection.setsockopt(socket.IPPROTO_TCP, _REPAIR, 1)
    try:
        stands = []
        for queue in (_SENT, _RECEIVED):
            connection.setsockopt(socket.IPPROTO_TCP, _REPAIR_QUEUE, queue)
            raw = connection.getsockopt(socket.IPPROTO_TCP, _QUEUE_SEQ, 4)
            stands.append(struct.unpack("=I", raw)[0])
        return Position(*stands)
    finally:
        connection.setsockopt(socket.IPPROTO_TCP, _REPAIR, _SILENTLY)


class RenumberedRequest:
    """One connection, and the request that is sent on it."""

    def __init__(self, made: Open, there: tuple[str, int], off: int) -> None:
        """Connect to ``there``; raises OSError. ``off`` 0: the request has no SACK block."""
        self._there = there
        self._client = made(socket.SOCK_STREAM, 0)
        self._raw = made(socket.SOCK_RAW, socket.IPPROTO_TCP)
        self._client.settimeout(DEADLINE)
        self._client.connect(there)
        self._here = self._client.getsockname()[:2]
        stands = numbers(self._client)
        self._end = (stands.sequence + len(REQUEST)) % (1 << 32)
        first = (stands.acknowledge + off) % (1 << 32)
        block = struct.pack("!BBBBII", 1, 1, 5, 10, first, (first + 1000) % (1 << 32))
        self._segment = forge(self._here, there, stands, REQUEST, options=block if off else b"")

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
        self._raw.close()

    def send(self) -> None:
        """Send the request, for the first time or again."""
        self._raw.sendto(self._segment, (self._there[0], 0))

    def arrived(self, patience: float) -> bool:
        """Tell whether the server acknowledges it within ``patience`` seconds."""
        until = time.monotonic() + patience
        while select.select([self._raw], [], [], max(0.0, until - time.monotonic()))[0]:
            packet = self._raw.recv(2000)
            if self._raw.family == socket.AF_INET:
                packet = packet[4 * (packet[0] & 15) :]
            source, port, _, acknowledged = struct.unpack_from("!HHII", packet)
            if (source, port, acknowledged) == (self._there[1], self._here[1], self._end):
                return True
        return False


def serve(address: str, port: int) -> None:
    """Accept connections and read what comes."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family, backlog=64) as listener:
        print("ready", flush=True)
        ends = [listener]
        while True:
            for ready in select.select(ends, [], [])[0]:
                if ready is listener:
                    ends.append(listener.accept()[0])
                    continue
                with contextlib.suppress(OSError):
                    if ready.recv(1000):
                        continue
                ends.remove(ready)
                ready.close()


def ask(address: str, port: int, off: int) -> None:
    """Ask again and again on one connection."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    request = RenumberedRequest(
        lambda kind, proto: socket.socket(family, kind, proto), (address, port), off
    )
    print("ready", flush=True)
    while True:
        request.send()
        time.sleep(EVERY)


if __name__ == "__main__":
    where, on = sys.argv[2], int(sys.argv[3])
    if sys.argv[1] == "serve":
        serve(where, on)
    ask(where, on, int(sys.argv[4]))
