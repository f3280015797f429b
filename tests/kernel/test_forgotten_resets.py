"""Resets of connections that conntrack has forgotten are no INVALID fault: named, and no alarm."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from waiting import eventually

from remedies.conditions.tcp_invalid_reset import ESTABLISHED
from remedies.lab.scenarios import tcp_invalid_reset as fault
from remedies.lab.topology import addresses
from remedies.lab.world import Options, World, child_environment

PORT = 5432
CONNECTIONS = 40
"""One is reset by its first segment: enough for the scan to hear some whenever it begins."""


@pytest.fixture
def world(family: int) -> Iterator[World]:
    with World("tcp-invalid-reset", Options("nft", family)) as made:
        fault.build(made)
        yield made


@contextlib.contextmanager
def connections(world: World) -> Iterator[list[socket.socket]]:
    """Give the server's ends of connections that the container opened through masquerade."""
    at = addresses(world)
    with contextlib.ExitStack() as stack:
        ear = stack.enter_context(world.socket("server", at.family, socket.SOCK_STREAM))
        ear.bind((at.server, PORT))
        ear.listen(CONNECTIONS)
        ends = []
        for _ in range(CONNECTIONS):
            client = stack.enter_context(world.socket("client", at.family, socket.SOCK_STREAM))
            client.settimeout(5)
            client.connect((at.server, PORT))
            ends.append(stack.enter_context(ear.accept()[0]))
        yield ends


def flows(world: World) -> str:
    return world.run("host", ["conntrack", "-L", "-p", "tcp", "-f", "ipv6"]) + world.run(
        "host", ["conntrack", "-L", "-p", "tcp", "-f", "ipv4"]
    )


def scanned(world: World, ends: list[socket.socket]) -> dict[str, Any]:
    """Scan while the server speaks first on each connection; return the finding."""
    argv = [sys.executable, "-m", "remedies", *world.remedy]
    with subprocess.Popen(
        [*argv, "scan", "--window", "2s", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(),
    ) as scan:
        for end in ends:
            with contextlib.suppress(OSError):
                end.send(b"notice")
            with contextlib.suppress(subprocess.TimeoutExpired):
                scan.wait(0.15)
        out, err = scan.communicate(timeout=30)
    found = [f for f in json.loads(out)["findings"] if f["condition"] == "tcp-invalid-reset"]
    assert len(found) == 1, out + err
    return dict(found[0])


@pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
@pytest.mark.parametrize("limit", ["2", "432000"], ids=["forgotten", "remembered"])
def test_what_conntrack_forgot_is_named_and_its_healthy_twin_is_silent(
    world: World, family: int, limit: str
) -> None:
    world.sysctl("host", ESTABLISHED, limit)
    with connections(world) as ends:
        if limit == "2":
            eventually(lambda: f"dport={PORT}" not in flows(world), 20, "conntrack forgot nothing")
        finding = scanned(world, ends)
    assert finding["verdict"] == "exposed", finding
    told = "resets answered segments of connections that conntrack has forgotten"
    assert (told in finding["message"]) == (limit == "2"), finding
    assert (f"{ESTABLISHED} = 2 s" in finding["message"]) == (limit == "2")
