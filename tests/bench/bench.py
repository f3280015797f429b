"""Print what things cost, side by side in one run: ``make bench``.

Whole processes, median of several runs, peak memory by the kernel's own accounting. Nothing
fails here: figures are for people, and for the changelog.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import ordinary

from remedies.netns import inside

NAME = "remedy-bench"
RUNS = 7


def run(argv: list[str]) -> tuple[float, float]:
    """Run a command once; return seconds and peak MB."""
    begun = time.perf_counter()
    null = os.open(os.devnull, os.O_WRONLY)
    child = os.posix_spawnp(
        argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)]
    )
    os.close(null)
    _, _, usage = os.wait4(child, 0)
    return time.perf_counter() - begun, usage.ru_maxrss / 1024


def measure(title: str, argv: list[str], target: str = "", runs: int = RUNS) -> float:
    """Print a row for a command and return its median in seconds."""
    results = [run(argv) for _ in range(runs)]
    seconds = statistics.median(s for s, _ in results)
    memory = max(m for _, m in results)
    print(f"{title:52} {seconds:8.3f} s {memory:7.1f} MB  {target}", flush=True)
    return seconds


@contextmanager
def world(rules: int, flows: int, tool: str = "iptables-nft") -> Iterator[None]:
    """Have an ordinary host for the length of a ``with`` block."""
    ordinary.remove(NAME)
    try:
        ordinary.build(NAME, rules, flows, tool=tool)
        yield
    finally:
        ordinary.remove(NAME)


def remedy(*words: str) -> list[str]:
    """Return the command line of ``remedy`` in the world."""
    command = shutil.which("remedy", path=os.path.dirname(sys.executable)) or "remedy"
    return [command, "--netns", NAME, "--state-dir", STATE, *words]


def in_world(*argv: str) -> list[str]:
    """Return a command line that runs another program in the world."""
    return ["ip", "netns", "exec", NAME, *argv]


def start_up() -> None:
    """Help and version against a bare interpreter."""
    bare = measure("python -I -c pass", [sys.executable, "-I", "-c", "pass"])
    for option in ("--help", "--version"):
        seconds = measure(f"remedy {option}", remedy(option))
        print(f"{'':52} {seconds / bare:8.2f} x bare        target <= 4")


def one_host() -> None:
    """Plan, apply, apply again and roll back on an ordinary Docker host."""
    with world(100, 1000):
        measure("plan --window 0 (100 rules, 1,000 flows)", remedy("plan", "--window", "0"),
                "target <= 0.10 s, 45 MB")  # fmt: skip
        measure("apply --yes --window 0", remedy("apply", "--yes", "--window", "0"),
                "target <= 2 x plan", 1)  # fmt: skip
        measure("apply --yes --window 0, again", remedy("apply", "--yes", "--window", "0"),
                "target <= 1.2 x plan")  # fmt: skip
        measure("status", remedy("status"))
        measure("rollback --yes", remedy("rollback", "--yes"), "", 1)


def many_rules() -> None:
    """Plan beside 50,000 rules of somebody else."""
    for tool in ("iptables-nft", "iptables-legacy"):
        with world(50_000, 100, tool):
            measure(f"plan beside 50,000 rules of {tool}", remedy("plan", "--window", "0"),
                    "target <= 1.5 x plan + 0.2 s, 60 MB", 3)  # fmt: skip


def many_flows() -> None:
    """Plan beside 200,000 flows, one in a hundred without a reply."""
    with world(100, 200_000):
        listing = measure("conntrack -L (200,000 flows)", in_world("conntrack", "-L"), "", 3)
        seconds = measure("plan beside them", remedy("plan", "--window", "0"),
                          "target <= 1.0 x, 60 MB", 3)  # fmt: skip
        print(f"{'':52} {seconds / listing:8.2f} x conntrack -L")


def many_sockets() -> None:
    """Plan beside 10,000 UDP sockets, 1,000 of them on the wildcard address."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (11_000, 11_000))
    with world(100, 0), inside(NAME), ExitStack() as open_sockets:
        for number in range(10_000):
            each = open_sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            each.bind(("" if number % 10 == 0 else "127.0.0.1", 20_000 + number))
        listing = measure("ss -uanp (10,000 UDP sockets)", in_world("ss", "-uanp"), "", 3)
        seconds = measure("plan beside them", remedy("plan", "--window", "0"), "target <= 3 x", 3)
        print(f"{'':52} {seconds / listing:8.2f} x ss -uanp")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as STATE:
        for part in (start_up, one_host, many_rules, many_flows, many_sockets):
            part()
