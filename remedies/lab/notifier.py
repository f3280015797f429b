"""A TCP server that speaks after a pause, and clients that wait for it.

``python -m remedies.lab.notifier serve ADDRESS PORT PAUSE`` sends a word on each connection PAUSE
seconds after it was opened, as database notifications and MQTT do; ``... subscribe ADDRESS PORT
PAUSE`` opens a connection ten times a second and keeps each for a second longer. Both print
``ready`` and go on until they are ended.
"""

from __future__ import annotations

import contextlib
import heapq
import socket
import sys
import time

EVERY = 0.1


def serve(address: str, port: int, pause: float) -> None:
    """Accept connections, and speak on each when its time has come."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    waiting: list[tuple[float, int, socket.socket]] = []
    with socket.create_server((address, port), family=family, backlog=64) as listener:
        listener.settimeout(EVERY / 2)
        print("ready", flush=True)
        while True:
            with contextlib.suppress(TimeoutError):
                end, _ = listener.accept()
                heapq.heappush(waiting, (time.monotonic() + pause, end.fileno(), end))
            while waiting and waiting[0][0] <= time.monotonic():
                end = heapq.heappop(waiting)[2]
                with contextlib.suppress(OSError):
                    end.sendall(b"notice")
                end.detach()  # closed with the process: a FIN would be one more segment


def subscribe(address: str, port: int, pause: float) -> None:
    """Open connections, and reset each when nothing can come any more."""
    waiting: list[tuple[float, int, socket.socket]] = []
    print("ready", flush=True)
    while True:
        with contextlib.suppress(OSError):
            end = socket.create_connection((address, port), 1)
            heapq.heappush(waiting, (time.monotonic() + pause + 1, end.fileno(), end))
        while waiting and waiting[0][0] <= time.monotonic():
            heapq.heappop(waiting)[2].close()
        time.sleep(EVERY)


if __name__ == "__main__":
    role, where, on, late = sys.argv[1:]
    (serve if role == "serve" else subscribe)(where, int(on), float(late))
