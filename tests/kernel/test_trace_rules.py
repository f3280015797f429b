"""``remedy trace --rules``: nftables itself names the rule; its table ends with the trace."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

from tracing import Trace, trace

from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, World, child_environment
from remedies.rules.ours import TRACE_PREFIX

RULES = ("--rules", "--yes")
UNKNOWN = """table inet filter {
chain i { type filter hook input priority 0; policy drop;
meta length 31 jump x
meta length 35 accept
udp dport 4002 accept
}
chain x { meta length 31 udp dport 4000 drop; return; }
}
"""
LEGACY = "*mangle\n-A INPUT -p udp --dport 4002 -j DROP\nCOMMIT\n"


def traced(seen: Trace, ports: set[int]) -> dict[int, str]:
    """Return the rule of the drops for each port, once nftrace has said something of it."""
    found: dict[int, str] = {}
    while found.keys() != ports:
        told = seen.await_event(kind="trace-drop", protocol="udp")
        if any("nftrace" in text for text in told["about"]):
            found[told["destination_port"]] = told["rule"]
    return found


@contextlib.contextmanager
def sending(world: World, *ports: int) -> Iterator[None]:
    """Have the container send to ports of its host as long as this lasts."""
    at, ended = addresses(world), threading.Event()
    with world.socket("client", at.family, socket.SOCK_DGRAM) as client:

        def send() -> None:
            while not ended.wait(0.1):
                for port in ports:
                    client.sendto(b"ask" if port == 4000 else b"asked", (at.bridge, port))

        sender = threading.Thread(target=send)
        sender.start()
        try:
            yield
        finally:
            ended.set()
            sender.join()


def test_rules_behind_what_cannot_be_judged_are_named_by_nftables() -> None:
    with World("rules", Options()) as world:
        container_host(world)
        world.run("host", ["nft", "-f", "-"], UNKNOWN)
        world.run("host", ["iptables-legacy-restore", "--noflush"], LEGACY)
        with trace(world, *RULES) as seen, sending(world, 4000, 4001, 4002):
            rules = traced(seen, {4000, 4001, 4002})
            seen.end()
        tables = world.run("host", ["nft", "list", "tables"])
    assert "(nft inet filter x)" in rules[4000]
    assert "# handle " in rules[4000]
    assert "'policy drop' (nft inet filter i)" in rules[4001]
    assert "--dport 4002 -j DROP' (iptables-legacy ip mangle INPUT)" in rules[4002]
    assert TRACE_PREFIX not in tables


def test_the_table_ends_with_a_killed_trace_and_outlives_a_flush() -> None:
    with World("rules", Options()) as world:
        container_host(world)
        for _ in range(5):
            with trace(world, *RULES) as seen:
                world.run("host", ["nft", "flush", "ruleset"])
                name = f"{TRACE_PREFIX}{seen.pid}"
                assert name in world.run("host", ["nft", "list", "tables"])
                os.kill(seen.pid, signal.SIGKILL)
                seen.await_end()
                assert TRACE_PREFIX not in world.run("host", ["nft", "list", "tables"])


def test_nothing_is_added_before_somebody_agrees() -> None:
    with World("rules", Options()) as world:
        done = subprocess.run(
            [sys.executable, "-m", "remedies", *world.remedy, "trace", "--rules"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
            env=child_environment(),
        )  # fmt: skip
        assert done.returncode == 64
        assert "--yes" in done.stderr
        assert world.run("host", ["nft", "list", "tables"]) == ""
