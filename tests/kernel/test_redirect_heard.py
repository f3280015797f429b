"""What a firewall makes of redirected requests is heard after the write.

A request, or its answer, that is dropped is harm: undone. A receiver that takes what it gets and
never answers is none.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import forked_cli
import pytest
from beside import beside

from remedies.lab import datagram
from remedies.lab.scenarios import udp_connected_server as scenario
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, World

PORT = 56789
LOST = {
    "request dropped": "a rule dropped the request",
    "answer dropped": "a rule dropped the answer",
    "no socket": "no socket listens",
}
each = pytest.mark.parametrize(
    ("nat", "backend", "family"),
    [
        ("nft", "nftables", 4),
        ("iptables-nft", "iptables", 6),
        ("iptables-legacy", "iptables", 4),
    ],
)
"""Each store once: what is heard is conntrack's and the sockets', whoever turned the request."""
WATCH = ("--policy", "docker-host", "apply", "--yes", "--window", "2s")


def remedy(world: World, *words: str) -> tuple[int, dict[str, Any]]:
    done = forked_cli.run(*world.remedy, *words, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def tool(world: World) -> str:
    """Return the program that writes the filter rules of the world's firewall."""
    kind = "iptables-nft" if world.options.nat == "nft" else world.options.nat
    return kind if world.options.family == 4 else kind.replace("ip", "ip6", 1)


def redirected(world: World) -> bool:
    rules = world.run("host", ["nft", "list", "ruleset"])
    if world.options.nat == "iptables-legacy":
        rules += world.run("host", [tool(world), "-t", "nat", "-S"])
    return "remedy_udp_redirect" in rules or "REMEDY-REDIRECT" in rules


@contextlib.contextmanager
def lost(world: World, kind: str) -> Iterator[None]:
    """Lose what is redirected until the block ends."""
    at = addresses(world)
    if kind == "no socket":
        world.stop_all()
        serve(world, at.uplink)
        yield
        world.stop_all()
        serve(world)
        return
    rule = ["INPUT", "-p", "udp", "-d", at.bridge, "--dport", str(PORT), "-j", "DROP"]
    if kind == "answer dropped":
        rule = ["OUTPUT", "-p", "udp", "-s", at.bridge, "--sport", str(PORT), "-j", "DROP"]
    world.run("host", [tool(world), "-w", "-I", *rule])
    yield
    world.run("host", [tool(world), "-w", "-D", *rule])


def serve(world: World, address: str = "") -> None:
    every = "::" if world.options.family == 6 else "0.0.0.0"
    world.start("host", ["remedies.lab.udp_server", address or every, str(PORT)])


def asking(world: World, kind: str = "") -> AbstractContextManager[None]:
    """Ask by a new socket again and again; ``kind``: how it is lost once the redirect stands."""
    at = addresses(world)

    def ask(patience: float = 0.1) -> None:
        with datagram.client(world, "client", at.family) as end:
            end.settimeout(patience)
            end.connect((at.uplink, PORT))
            for _ in range(2):
                with contextlib.suppress(OSError):
                    end.send(b"question")
                    end.recv(100)

    def work(stop: threading.Event) -> None:
        while not stop.is_set() and not (kind and redirected(world)):
            ask(0.05)  # nobody is answered: what is lost has to be lost while apply listens
        with lost(world, kind) if kind else contextlib.nullcontext():
            while not stop.is_set():
                ask()

    return beside(work)


@each
def test_requests_that_are_lost_behind_a_redirect_are_undone(
    nat: str, backend: str, family: int
) -> None:
    with World("udp-reply-source", Options(nat, family, backend=backend)) as world:
        container_host(world)
        serve(world)
        for kind, why in LOST.items():
            with asking(world, kind):
                code, told = remedy(world, *WATCH)
            assert (code, told["outcome"]) == (3, "rolled-back"), (kind, told)
            assert f"{PORT} by docker0 and was not answered: {why}" in told["reason"]
            assert not redirected(world)
        with asking(world):
            code, told = remedy(world, *WATCH)
        assert (code, told["outcome"]) == (0, "applied"), told
        assert redirected(world)


@each
def test_a_receiver_that_never_answers_keeps_its_redirect(
    nat: str, backend: str, family: int
) -> None:
    """netcat as ``nc -u -l``: as syslog, statsd or netflow it hears and says nothing."""
    with World("udp-connected-server", Options(nat, family, backend=backend)) as world:
        scenario.build(world)
        at = addresses(world)
        with (
            world.socket("client", at.family, socket.SOCK_DGRAM) as end,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear,
        ):
            ear.bind(f"{world.folder}/heard")
            ear.settimeout(5)
            end.connect((at.uplink, PORT))

            def send(stop: threading.Event) -> None:
                while not stop.wait(0.1):
                    with contextlib.suppress(ConnectionRefusedError):
                        end.send(b"line")

            with beside(send):
                ear.recv(1000)  # netcat is connected to its client now
                code, told = remedy(world, *WATCH)
                looks = [remedy(world, verb)[1]["harm"] for verb in ("status", "verify")]
                while ear in select.select([ear], [], [], 0)[0]:
                    ear.recv(1000)
                assert b"line" in ear.recv(1000)
        assert (code, told["outcome"], looks) == (0, "applied", [[], []]), told
        assert redirected(world)
