"""What ``remedy watch --all-netns`` takes at its default interval, how soon it tells, and a scan.

Run as ``python tests/bench/watch_speed.py``; :mod:`figures` says how figures are kept. The watch
runs in mount, process and network namespaces made for it, in which there is nobody else. A fault's
way to its line is by the clock: other work on the machine stretches it.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import figures

from remedies.lab import flow_table
from remedies.netlink.socket import NETLINK_NETFILTER

LOOKS = 4
"""How many looks of a watch at rest are measured: it does nothing between them."""
PAUSE = 0.1
"""Seconds between two readings of its clock, which tell one look from the next."""
FAULTS = 5
INTERVAL = 10.0
"""The default one, in which each change is to be told."""
MOST_STARTS = 0.002 * INTERVAL / figures.BARE
"""0.2 % of a core is 20 ms an interval: two interpreters on the machine that it was named for."""
LIMIT = "/proc/sys/net/netfilter/nf_conntrack_max"
NAT = "table ip bench { chain c { type nat hook postrouting priority 0; masquerade; }; }"
_ALONE = ("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc")


def measure(namespaces: int, flows: int) -> dict[str, float]:
    """Return ``share`` of a core, ``memory`` in MB and ``told``, the longest way of a fault.

    ``scan``: the processor seconds of one scan of them all; ``starts``: bare interpreters that the
    least of the looks takes, an interval.

    In namespaces of its own, with folders of names of its own.
    """
    for folder in ("/run/netns", "/run/docker"):
        os.makedirs(folder, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    for number in range(namespaces):
        subprocess.run(["ip", "netns", "add", f"n{number}"], check=True)
        subprocess.run(["ip", "-n", f"n{number}", "link", "set", "lo", "up"], check=True)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as ctnetlink:
        flow_table.make(ctnetlink, "192.0.2.1", 5000, flows)
    remedy = os.path.join(os.path.dirname(sys.executable), "remedy")
    everywhere = ["--all-netns", "--window", "0"]
    with tempfile.TemporaryDirectory() as state:
        scan = figures.once([remedy, "--state-dir", state, "scan", *everywhere]).processor
    with (
        tempfile.TemporaryDirectory() as state,
        subprocess.Popen(
            [remedy, "--state-dir", state, "watch", "--all-netns", "--json"],
            stdout=subprocess.PIPE,
            text=True,
        ) as watch,
    ):
        await_line(watch, "watch-ready")
        bare = figures.bare()
        share, least = at_rest(watch.pid)
        memory = peak(watch.pid)
        bare = min(bare, figures.bare())
        told = max(way(watch, f"n{number}") for number in range(min(FAULTS, namespaces)))
        watch.terminate()
    return {"share": share, "memory": memory, "told": told, "scan": scan,
            "starts": INTERVAL * least / bare}  # fmt: skip


def await_line(watch: subprocess.Popen[str], kind: str) -> dict[str, Any]:
    """Return the next line of a kind. Raises RuntimeError where the watch ends before."""
    assert watch.stdout is not None
    for line in watch.stdout:
        plain: dict[str, Any] = json.loads(line)
        if plain["kind"] == kind:
            return plain
    raise RuntimeError(f"the watch ended before {kind}")


def way(watch: subprocess.Popen[str], name: str) -> float:
    """Return the seconds from a fault to the line about it."""
    # This process is number 1 here, and where that is counts as the machine's own namespace.
    subprocess.run(["nsenter", f"--net=/run/netns/{name}", "nft", NAT], check=True)
    begun = time.monotonic()
    seen = await_line(watch, "watch-event")
    if seen["netns_name"] != name:
        raise RuntimeError(f"{name}: a line about {seen['netns_name']}")
    return time.monotonic() - begun


def at_rest(pid: int) -> tuple[float, float]:
    """Return a watch's share of a core over whole looks, and what it is if all were as the least.

    From the end of one look to that of another.
    """
    ends = [look_end(pid) for _ in range(1 + LOOKS)]
    each = [after[0] - before[0] for before, after in itertools.pairwise(ends)]
    passed = ends[-1][1] - ends[0][1]
    return sum(each) / passed, LOOKS * min(each) / passed


def look_end(pid: int) -> tuple[float, float]:
    """Await a look; return the processor seconds at its end, and when that was."""
    begun = now = processor(pid)
    while now == begun:
        time.sleep(PAUSE)
        now = processor(pid)
    until, last = time.monotonic(), begun
    while now != last:
        until, last = time.monotonic(), now
        time.sleep(PAUSE)
        now = processor(pid)
    return now, until


def processor(pid: int) -> float:
    """Return the processor seconds of a process and the children that it has waited for.

    Its own threads' by their clock, to the nanosecond; children's in ticks, and at rest none end.
    """
    number = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(number)) != 0:
        raise ProcessLookupError(pid)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    of_children = sum(map(int, fields[13:15])) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(number.value) + of_children


def peak(pid: int) -> float:
    """Return the most memory that a process has had, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    """Measure few namespaces, and many."""
    part = figures.Part("watch")
    room = int(Path(LIMIT).read_text())
    for namespaces, flows in ((50, 100_000), (400, 250_000)):
        flows = min(flows, room - 1000)
        words = [sys.executable, __file__, str(namespaces), str(flows)]
        ran = subprocess.run([*_ALONE, *words], check=True, capture_output=True, text=True)
        took = json.loads(ran.stdout)
        few = namespaces == 50
        each = 1000 * took["scan"] / namespaces
        part.row(f"scan of {namespaces} namespaces, for each", each, "ms", None if few else 20)
        part.row(f"watch beside {namespaces} namespaces, {flows:,} flows: of a core",
                 100 * took["share"], "%")  # fmt: skip
        part.row("  each interval / bare interpreter", took["starts"], "x",
                 MOST_STARTS if few else None)  # fmt: skip
        part.row("  its memory", took["memory"], "MB", 30 if few else None)
        part.row(
            f"  from a fault to its line, the longest of {FAULTS}", took["told"], "s", INTERVAL
        )


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(measure(*map(int, sys.argv[1:]))))
    else:
        main()
