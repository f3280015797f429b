"""A redirect whose requests a firewall eats is heard after the write, and undone."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from remedies.lab.scenarios import load
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, World, child_environment

PORT = 56789
ONE_ADDRESS = """
table inet acl {
    chain input {
        type filter hook input priority filter; policy drop
        iif "lo" accept
        meta l4proto ipv6-icmp accept
        ct state established,related accept
        %s daddr %s udp dport 56789 accept
    }
}
"""
"""A firewall that opens the address that clients ask, and not the one a redirect sends them to."""


def asking(world: World, stop: threading.Event, closes: bool) -> None:
    """Ask by a new socket again and again; ``closes``: a firewall does, once the fix stands."""
    at = addresses(world)
    closed = not closes
    while not stop.is_set():
        rules = world.run("host", ["nft", "list", "ruleset"])
        if not closed and "remedy_udp_redirect" in rules:
            word = "ip6" if world.options.family == 6 else "ip"
            world.run("host", ["nft", "-f", "-"], ONE_ADDRESS % (word, at.uplink))
            closed = True
        with world.socket("client", at.family, socket.SOCK_DGRAM) as end:
            end.settimeout(0.2)
            end.connect((at.uplink, PORT))
            with contextlib.suppress(OSError):
                end.send(b"question")
                end.recv(100)
        stop.wait(0.05)


@contextlib.contextmanager
def clients(world: World, closes: bool) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=asking, args=(world, stop, closes))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("closes", [True, False], ids=["closed", "open"])
@pytest.mark.parametrize("family", [4, 6])
def test_requests_that_nobody_answers_are_undone(family: int, closes: bool) -> None:
    assert load("udp-reply-source")
    with World("udp-reply-source", Options("nft", family)) as world:
        container_host(world)
        wild = "::" if family == 6 else "0.0.0.0"
        world.start("host", ["remedies.lab.udp_server", wild, str(PORT)])
        with clients(world, closes):
            done = subprocess.run(
                [sys.executable, "-m", "remedies", *world.remedy, "--policy", "docker-host",
                 "apply", "--yes", "--window", "2s", "--json"],
                capture_output=True, text=True, timeout=60, check=False, env=child_environment(),
            )  # fmt: skip
        told = json.loads(done.stdout)
        assert any(c["fix"] == "udp-redirect" for c in told["changes"]), told
        if not closes:
            assert done.returncode == 0, done.stdout + done.stderr
            return
        assert (done.returncode, told["outcome"]) == (3, "rolled-back"), done.stdout
        assert f"{PORT} by docker0 and was not answered" in told["reason"]
        assert "remedy_udp_redirect" not in world.run("host", ["nft", "list", "ruleset"])
