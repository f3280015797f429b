"""What the drop tap costs: to attach, with and without the kernel's types kept; a dropped packet.

A socket sends datagrams over the loopback of a throw-away namespace to a port that a rule drops;
the same is done with and without the tap, in turn, and the smallest difference of each is taken.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Optional

from remedies.namespaces.netns import inside
from remedies.tap.drops import DropCounter

ROUNDS = 9
PACKETS = 20_000
PORT = 9
_ATTACH = """
import sys, time
from remedies.tap.drops import DropCounter
begin = time.perf_counter()
counter = DropCounter(cache=sys.argv[1] if len(sys.argv) > 1 else None)
print(time.perf_counter() - begin)
"""


def attach(cache: Optional[str] = None) -> float:
    """Return the seconds that attaching takes in a new process: the least of some."""
    argv = [sys.executable, "-c", _ATTACH, *([cache] if cache else [])]
    took = [float(subprocess.check_output(argv)) for _ in range(ROUNDS + bool(cache))]
    return min(took[bool(cache) :])  # the first one fills the cache


def dropped_packet(namespace: str) -> tuple[float, float]:
    """Return the seconds that sending a packet to its drop takes without the tap, and with it.

    The namespace's loopback has to be up, and UDP to :data:`PORT` dropped.
    """
    with inside(namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        without, tapped = [], []
        for _ in range(ROUNDS):
            without.append(_sent(sender))
            counter = DropCounter()
            try:
                tapped.append(_sent(sender))
                counted = sum(drop.count for drop in counter.read())
                if counted < PACKETS:
                    raise RuntimeError(f"{counted} of {PACKETS} packets were dropped")
            finally:
                counter.close()
    return min(without), min(tapped)


def _sent(sender: socket.socket) -> float:
    send: Callable[[bytes, tuple[str, int]], int] = sender.sendto
    begin = time.process_time()
    for _ in range(PACKETS):
        send(b"x", ("127.0.0.1", PORT))
    return (time.process_time() - begin) / PACKETS
