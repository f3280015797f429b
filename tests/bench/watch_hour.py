"""``remedy watch`` for an hour, as releases are judged: ``watch_hour.py [MINUTES FAULTS FLOWS]``.

In mount, process and network namespaces of its own: 20 namespaces that stay, others that come and
go, flows, and faults of several kinds put in and taken out one after another, some with their
namespace. Prints a line of JSON for each fault, and how often what watches beside it saw anything:
the counters that node_exporter reads, and ``conntrack -E``. Fails where a fault was missed, told
late or told of another namespace. Other work on the machine makes lines late: each has its load.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from watch_speed import INTERVAL, await_line, peak, processor

from remedies.lab import flow_table
from remedies.netlink.socket import NETLINK_NETFILTER

LASTING = 20
PATIENCE = 6 * INTERVAL
"""Seconds after which a line counts as missed."""
_ALONE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_REFRESH = 1200.0
"""Seconds after which the flows are made again: the lab's live for an hour."""
_STANDING = """\
table ip mapped {
    chain c {
        type nat hook prerouting priority -100
        ip daddr 203.0.113.1 udp dport 8080 dnat to 192.0.2.9:80
    }
    chain d {
        type nat hook postrouting priority 100
        ip protocol tcp masquerade
    }
}
"""
_TIMEOUT = "net.netfilter.nf_conntrack_tcp_timeout_established"
_RAW = ("iptables-legacy", "-w", "-t", "raw", "-R", "PREROUTING", "1", "-p", "udp", "--dport")
_UNTRACKED = ("-j", "CT", "--notrack")
_OVERFLOW = """\
import socket, time
server = socket.create_server(("127.0.0.1", 8080), backlog=0)
while True:
    client = socket.socket(); client.setblocking(False); client.connect_ex(("127.0.0.1", 8080))
    time.sleep(0.2)
"""


@dataclass(frozen=True)
class Kind:
    """A fault: the condition that sees it, and the commands that put it in and take it out."""

    condition: str
    put_in: tuple[str, ...]
    take_out: tuple[str, ...] = ()
    """Empty: what was put in runs until it is ended."""
    standing: bool = False
    """It is one only beside NAT, so in a namespace that has some."""


_NAT = Kind(
    "tcp-invalid-reset",
    ("nft", "table ip bench { chain c { type nat hook postrouting priority 0; masquerade; }; }"),
    ("nft", "delete table ip bench"),
)
KINDS = (
    _NAT,
    Kind("idle-timeout", ("sysctl", "-qw", f"{_TIMEOUT}=300"),
         ("sysctl", "-qw", f"{_TIMEOUT}=432000"), True),
    Kind("notrack-breaks-nat", (*_RAW, "8080", *_UNTRACKED), (*_RAW, "8081", *_UNTRACKED), True),
    Kind("accept-queue-overflow", (sys.executable, "-c", _OVERFLOW)),
)  # fmt: skip


@dataclass
class Outcome:
    """What became of one fault, in seconds; None: no line came."""

    number: int
    condition: str
    place: str
    """Empty: the namespace that the watch runs in."""
    ended_with_it: bool
    """The namespace was removed with the fault in it."""
    seen: Optional[float] = None
    cleared: Optional[float] = None
    reason: str = ""
    counters: int = 0
    """Counters of node_exporter's that moved in the watch's namespace meanwhile."""
    events: int = 0
    """Lines of ``conntrack -E`` meanwhile."""
    load: float = 0.0


@dataclass
class Lines:
    """The watch's lines as they come, each with its time; what nobody expected is wrong."""

    come: queue.Queue[tuple[float, dict[str, Any]]] = field(default_factory=queue.Queue)
    wrong: list[dict[str, Any]] = field(default_factory=list)

    def read(self, watch: subprocess.Popen[str]) -> None:
        """Take in lines until the watch ends."""
        assert watch.stdout is not None
        for line in watch.stdout:
            self.come.put((time.monotonic(), json.loads(line)))

    def wait(self, event: str, condition: str, place: str) -> Optional[tuple[float, str]]:
        """Return time and reason of a line; None where it does not come."""
        until = time.monotonic() + PATIENCE
        while (left := until - time.monotonic()) > 0:
            try:
                at, line = self.come.get(timeout=left)
            except queue.Empty:
                break
            said = (line.get("event"), line.get("condition"), line.get("netns_name") or "")
            if said == (event, condition, place):
                return at, str(line["reason"])
            if line["kind"] == "watch-event":
                self.wrong.append(line)
        return None


def within(place: str, *words: str) -> tuple[str, ...]:
    """Return a command as it runs in a namespace; this process, 1 of its machine, stays outside."""
    return ("nsenter", f"--net=/run/netns/{place}", *words) if place else words


def run(place: str, *words: str, given: Optional[str] = None) -> None:
    """Run a command in a namespace. Raises CalledProcessError."""
    subprocess.run(within(place, *words), check=True, input=given, text=True, capture_output=True)


def make(place: str) -> None:
    """Make a namespace."""
    run("", "ip", "netns", "add", place)
    run(place, "ip", "link", "set", "lo", "up")


def counters() -> dict[str, str]:
    """Return what node_exporter's netstat and conntrack collectors read here."""
    files = ("netstat", "snmp", "snmp6", "stat/nf_conntrack")
    text = "".join(Path(f"/proc/self/net/{name}").read_text() for name in files)
    return {str(number): word for number, word in enumerate(text.split())}


def fault(number: int, lines: Lines, peer: list[str]) -> Outcome:
    """Put one fault in, await its line, take it out, and await that line."""
    kind = KINDS[number % len(KINDS)]
    turn = number // len(KINDS)
    passing = not kind.standing and turn % 4 != 3
    place = f"b{turn % LASTING}" if kind.standing else f"g{turn % 3}" if passing else ""
    outcome = Outcome(number, kind.condition, place, passing and turn % 2 == 0)
    if passing:
        make(place)
        # One name each: the kernel ends a namespace, and with it its links, when it finds time.
        run("", "ip", "link", "add", f"byway{number}", "type", "veth",
            "peer", "eth0", "netns", place)  # fmt: skip
    before, heard = counters(), len(peer)
    program = None
    if kind.take_out:
        run(place, *kind.put_in)
    else:
        program = subprocess.Popen(within(place, *kind.put_in))
    begun = time.monotonic()
    seen = lines.wait("appeared", kind.condition, place)
    after = counters()
    outcome.counters = sum(after.get(name) != word for name, word in before.items())
    outcome.events = len(peer) - heard
    if program is not None:
        program.kill()
        program.wait()
    if outcome.ended_with_it:
        run("", "ip", "netns", "del", place)
    elif kind.take_out:
        run(place, *kind.take_out)
    if seen is not None:
        outcome.seen = round(seen[0] - begun, 2)
        begun = time.monotonic()
        gone = lines.wait("cleared", kind.condition, place)
        outcome.cleared = None if gone is None else round(gone[0] - begun, 2)
        outcome.reason = "" if gone is None else gone[1][:80]
    if passing and not outcome.ended_with_it:
        run("", "ip", "netns", "del", place)
    outcome.load = os.getloadavg()[0]
    return outcome


def faults(
    minutes: float, many: int, flows: int, lines: Lines, peer: list[str]
) -> Iterator[Outcome]:
    """Yield what becomes of each fault, spread over the time."""
    begun = refreshed = time.monotonic()
    for number in range(many):
        time.sleep(max(0.0, begun + number * 60 * minutes / many - time.monotonic()))
        if time.monotonic() - refreshed > _REFRESH:
            fill(flows)
            refreshed = time.monotonic()
        yield fault(number, lines, peer)


def fill(flows: int) -> None:
    """Make the flows in this namespace, or let them live longer."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as ctnetlink:
        flow_table.make(ctnetlink, "192.0.2.1", 5000, flows)


def resident(pid: int) -> int:
    """Return the memory of a process that is its own, in KB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if "Anonymous" in line)


def measure(minutes: float, many: int, flows: int) -> int:
    """Run it; return 1 where a fault was missed, late, or told of another namespace."""
    for folder in ("/run/netns", "/run/docker"):
        os.makedirs(folder, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    run("", "ip", "link", "set", "lo", "up")
    for number in range(LASTING):
        make(f"b{number}")
        run(f"b{number}", "nft", "-f", "-", given=_STANDING)
        run(f"b{number}", "iptables-legacy", "-w", "-t", "raw", "-A", "PREROUTING", "-p", "udp",
            "--dport", "8081", *_UNTRACKED)  # fmt: skip
    fill(flows)
    remedy = os.path.join(os.path.dirname(sys.executable), "remedy")
    lines, peer, done = Lines(), list[str](), list[Outcome]()
    with (
        tempfile.TemporaryDirectory() as state,
        subprocess.Popen(
            [remedy, "--state-dir", state, "watch", "--all-netns", "--json", "--listen", "9720"],
            stdout=subprocess.PIPE,
            text=True,
        ) as watch,
        subprocess.Popen(
            ["conntrack", "-E"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as conntrack,
        contextlib.ExitStack() as ending,
    ):
        # They are awaited, also where a fault cannot be put in.
        for program in (watch, conntrack):
            ending.callback(program.terminate)
        await_line(watch, "watch-ready")
        threading.Thread(target=lines.read, args=(watch,), daemon=True).start()
        assert conntrack.stdout is not None
        threading.Thread(target=peer.extend, args=(conntrack.stdout,), daemon=True).start()
        begun, at, memory = processor(watch.pid), time.monotonic(), 0
        for outcome in faults(minutes, many, flows, lines, peer):
            done.append(outcome)
            share = (processor(watch.pid) - begun) / (time.monotonic() - at)
            memory = memory or resident(watch.pid)
            print(json.dumps(asdict(outcome) | {"share": round(100 * share, 3), "anonymous_kb":
                  resident(watch.pid)}), flush=True)  # fmt: skip
        after, highest = resident(watch.pid), peak(watch.pid)
    while not lines.come.empty():
        lines.wrong.append(lines.come.get()[1])
    missed = [one.number for one in done if one.seen is None or one.cleared is None]
    times = [t for one in done for t in (one.seen, one.cleared) if t is not None]
    late = [t for t in times if t > INTERVAL]
    print(json.dumps({
        "faults": len(done), "missed": missed, "late": late, "wrong": lines.wrong[:20],
        "wrong_lines": len(lines.wrong), "longest": max(times, default=None),
        "share_percent": round(100 * share, 3), "peak_mb": round(highest, 1),
        "kb_a_fault": round((after - memory) / max(1, len(done) - 1), 2),
        "seen_by_counters": sum(one.counters > 0 for one in done),
        "seen_by_conntrack": sum(one.events > 0 for one in done),
    }), flush=True)  # fmt: skip
    return int(bool(missed or late or lines.wrong))


def main() -> None:
    """Measure in namespaces of its own; whoever ends this process ends all of it."""
    words = sys.argv[1:] or ["60", "200", "100000"]
    os.execvp(_ALONE[0], [*_ALONE, sys.executable, __file__, "--inside", *words])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        sys.exit(measure(float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
    main()
