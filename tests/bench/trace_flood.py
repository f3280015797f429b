"""What ``remedy trace`` costs while a host sends many resets: ``trace_flood.py [RATE [SECONDS]]``.

A peer sends SYNs for a closed port, at a rate, for a bounded time, in throw-away namespaces; the
host answers each with a reset. Then it sends four times as many datagrams that a rule drops, at
eight times the rate, or as fast as this machine can beside the trace.
Prints the part of a processor that the trace took, its peak memory and what it accounts for: once
for few tuples that repeat, once for a new one each time. :mod:`figures` says how they are kept.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import figures

from remedies.lab.segment import checksum
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, World, child_environment
from remedies.namespaces.netns import inside

BATCH = 250
PORT = 9
RING, FRAME = 8192, 128
"""Frames that are sent at once, and octets of each."""
_SOL_PACKET, _PACKET_VERSION, _PACKET_TX_RING = 263, 10, 13
_TPACKET_V2, _SEND_REQUEST = 1, 1
"""include/uapi/linux/if_packet.h"""

Flooding = Callable[[World, int, float, int], float]
"""Floods a world at a rate, for a time, with so many tuples; returns how long it took."""


@dataclass(frozen=True)
class Figures:
    """What one flood came to."""

    sent: int
    """Resets, by the kernel's own count."""
    seconds: float
    summary: dict[str, int]
    accounted: int
    """Packets that the trace heard, counted without a look, or reports as lost."""
    peak: float
    """MB of resident memory."""
    processor: float
    """Processor seconds a second."""
    lines: int
    """Events told one by one."""
    listened: float
    """Seconds that the trace has listened."""
    drops: list[dict[str, object]]
    """The kinds of drops that the summary names."""


def segment(source: str, destination: str, port: int) -> bytes:
    """Return an IPv4 packet with a SYN from ``port`` for the closed port."""
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    part = struct.pack("!HHIIBBHHH", port, PORT, 1, 0, 5 << 4, 2, 512, 0, 0)
    total = checksum(ends + struct.pack("!xBH", 6, len(part)) + part)
    part = part[:16] + struct.pack("!H", total) + part[18:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(part), 0, 0x4000, 64, 6, 0)
    head = head[:10] + struct.pack("!H", checksum(head + ends))
    return head + ends + part


def resets(world: World) -> int:
    """Return how many resets the host has sent since it was made."""
    with inside(world.namespace("host")), open("/proc/thread-self/net/snmp") as file:
        names, values = (line.split() for line in file if line.startswith("Tcp:"))
    return int(values[names.index("OutRsts")])


def flood(world: World, rate: int, seconds: float, tuples: int) -> float:
    """Send SYNs of so many tuples at a rate; return how long it took."""
    at = addresses(world)
    network = at.server.rpartition(".")[0]
    packets = [
        segment(f"{network}.{100 + number // 60_000}", at.uplink, 1024 + number % 60_000)
        for number in range(tuples)
    ]
    # Their addresses are the server's neighbours: the host answers to the server.
    mac = json.loads(world.run("server", ["ip", "-j", "link", "show", "eth0"]))[0]["address"]
    world.ip(
        "host",
        *(
            f"neigh replace {network}.{100 + number} lladdr {mac} dev eth0 nud permanent"
            for number in range(1 + tuples // 60_000)
        ),
    )
    host = json.loads(world.run("host", ["ip", "-j", "link", "show", "eth0"]))[0]["address"]
    target = ("eth0", 0x0800, 0, 0, bytes.fromhex(host.replace(":", "")))
    begin = time.monotonic()
    with world.socket("server", socket.AF_PACKET, socket.SOCK_DGRAM) as sender:
        for number in range(0, int(rate * seconds), BATCH):
            for each in range(number, number + BATCH):
                sender.sendto(packets[each % tuples], target)
            ahead = begin + (number + BATCH) / rate - time.monotonic()
            if ahead > 0:
                select.select([], [], [], ahead)
    return time.monotonic() - begin


def measure(
    world: World, rate: int, seconds: float, tuples: int, flooding: Flooding = flood
) -> Figures:
    """Trace the host while it is flooded; the trace is ended as by Ctrl-C."""
    argv = [sys.executable, "-m", "remedies", "--netns", world.namespace("host")]
    argv += ["trace", "--for", "5m", "--json"]
    with (
        tempfile.TemporaryFile("w+") as out,  # a pipe that nobody reads would hold the trace up
        subprocess.Popen(
            argv, stdout=out, stderr=subprocess.PIPE, text=True, env=child_environment()
        ) as child,
    ):
        assert child.stderr is not None
        try:
            assert "listening" in child.stderr.readline()
            before = resets(world)
            took = flooding(world, rate, seconds, tuples)
            sent = resets(world) - before
        finally:
            peak = _peak(child.pid)
            child.send_signal(signal.SIGINT)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        *events, last = map(json.loads, out)
    counted = last["heard"].get("reset", 0)
    return Figures(
        sent=sent,
        seconds=took,
        summary={
            "heard": counted,
            **{
                name: last[name]
                for name in ("unexamined", "lost", "reasons_lost", "dropped", "drops_lost")
            },
        },
        accounted=counted + last["unexamined"] + last["lost"],
        peak=peak,
        processor=(usage.ru_utime + usage.ru_stime) / last["seconds"],
        lines=sum(1 for event in events if event["kind"] != "trace-more"),
        listened=last["seconds"],
        drops=last["drops"],
    )


def drop_flood(world: World, rate: int, seconds: float, tuples: int) -> float:
    """Send datagrams of so many tuples that a rule of the host drops; return how long it took."""
    rule = "type filter hook prerouting priority -400; ip protocol udp drop;"
    world.run("host", ["nft", "-f", "-"], f"table ip flood {{\nchain p {{ {rule} }}\n}}\n")
    total = int(rate * seconds)
    frames = datagrams(world, min(tuples, total))
    frames *= max(1, RING * FRAME // len(frames))
    with world.socket("server", socket.AF_PACKET, socket.SOCK_RAW) as sender:
        # A ring that the kernel shares with us (packet(7)): one call sends thousands.
        sender.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
        request = struct.pack("=IIII", RING * FRAME // 64, 64, FRAME, RING)
        sender.setsockopt(_SOL_PACKET, _PACKET_TX_RING, request)
        sender.bind(("eth0", 0x0800))
        with mmap.mmap(sender.fileno(), RING * FRAME) as ring:
            begin = time.monotonic()
            for first in range(0, total, RING):
                size = min(RING, total - first) * FRAME
                start = first * FRAME % len(frames)
                ring[:size] = (frames[start : start + size] + frames[:size])[:size]
                sender.send(b"")
                ahead = begin + first / rate - time.monotonic()
                if ahead > 0:
                    select.select([], [], [], ahead)
    return time.monotonic() - begin


def datagrams(world: World, tuples: int) -> bytes:
    """Return the frames of empty datagrams for the closed port, each as the ring has it.

    Each has a source of its own: what comes after the IPv4 header the kernel keeps elsewhere.
    """
    host = json.loads(world.run("host", ["ip", "-j", "link", "show", "eth0"]))[0]["address"]
    link = bytes.fromhex(host.replace(":", "")) + bytes(6) + b"\x08\0"
    state = struct.pack("=II24x", _SEND_REQUEST, len(link) + 28)  # struct tpacket2_hdr
    head = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0x4000, 64, 17, 0)
    target = socket.inet_aton(addresses(world).uplink)
    frames = bytearray()
    for number in range(tuples):
        ends = struct.pack("!I", 0x0A200000 + number) + target  # 10.32.0.0/11
        summed = struct.pack("!H", checksum(head + ends))
        frame = state + link + head[:10] + summed + ends + struct.pack("!HHHH", 1024, PORT, 8, 0)
        frames += frame.ljust(FRAME, b"\0")
    return bytes(frames)


def _peak(pid: int) -> float:
    """Return the most memory (MB) that a process has had since it was executed.

    Not ru_maxrss: that counts what the process which forked it had.
    """
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def main(rate: int = 50_000, seconds: float = 4.0) -> None:
    """Print and keep the figures of all floods."""
    part = figures.Part("trace")
    floods = (("resets", rate, seconds, flood), ("drops", 8 * rate, seconds / 2, drop_flood))
    for what, pace, lasting, flooding in floods:
        for name, tuples in (("64 tuples", 64), ("a tuple each", int(pace * lasting))):
            with World("trace-flood", Options()) as world:
                container_host(world)
                took = measure(world, pace, lasting, tuples, flooding)
            heard = took.accounted if flooding is flood else took.summary["dropped"]
            sent = took.sent if flooding is flood else int(pace * lasting)
            label = f"trace beside {sent / took.seconds:,.0f} {what} a second, {name}"
            part.row(f"{label}: of a core", 100 * took.processor, "%")
            part.row("  its memory", took.peak, "MB")
            part.row("  accounted for", 100 * heard / sent, "%")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
