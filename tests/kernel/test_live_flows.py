"""Live flows survive every fix: applied and rolled back under steady traffic, nothing is lost.

A TCP transfer and UDP conversations go through the host, and to it, all the while the real command
line works; every chunk and every numbered datagram has to come back, and new flows have to open.
Only what a plan names may suffer: here the client that fails because of the fault itself.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked_cli
import pytest

from remedies.lab.datagram import ask
from remedies.lab.ruleset import difference, dump
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, World

PATIENCE = 20.0
"""Seconds after which a datagram or a chunk counts as lost, on a busy machine."""
PACE = 0.002
"""Seconds between two rounds: each sends one datagram or chunk by every flow."""
ROUNDS = 20
"""How many rounds must have come and gone before, while and after a command works."""
THROUGH, TO_HOST, FAULTY, STREAM = 7000, 5060, 56789, 443
POLICIES = {
    "invalid-drop": "rules:\n  tcp-invalid-reset:"
    " {mode: fix, from: exposed, fixes: [invalid-drop], accept_harm: [invalid-drop]}\n",
    "tcp-be-liberal": "rules:\n  tcp-invalid-reset:"
    " {mode: fix, from: exposed, fixes: [tcp-be-liberal]}\n",
    "notrack": "rules:\n  tcp-invalid-reset: {mode: advise}\nrequire:\n"
    "  - {fix: notrack, reason: SIP, params: {protocol: udp, ports: [5060], addresses: [%s]}}\n",
    "udp-redirect": "",
}
CASES = [
    pytest.param(fix, nat, family, backend, id=f"{fix}-{nat}-v{family}-{backend}")
    for fix, nat, family, backend in (
        ("invalid-drop", "nft", 4, "nftables"),
        ("invalid-drop", "nft", 6, "nftables"),
        ("invalid-drop", "iptables-nft", 4, "iptables"),
        ("invalid-drop", "iptables-legacy", 6, "iptables"),
        ("tcp-be-liberal", "nft", 4, "nftables"),
        ("notrack", "nft", 4, "nftables"),
        ("notrack", "iptables-nft", 6, "iptables"),
        ("notrack", "iptables-legacy", 4, "iptables"),
        ("udp-redirect", "nft", 4, "nftables"),
        ("udp-redirect", "iptables-nft", 4, "iptables"),
        ("udp-redirect", "iptables-legacy", 6, "iptables"),
    )
]


class Flows:
    """Conversations of one world, kept up by a thread until the ``with`` block is left."""

    def __init__(self, world: World, patience: float = PATIENCE) -> None:
        self._world, self._at, self._patience = world, addresses(world), patience
        self._open = contextlib.ExitStack()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._went = threading.Condition()
        self.rounds = 0
        self.lost: list[str] = []
        self.bytes = 0
        """Of TCP payload, there and back."""

    def _socket(self, role: str, kind: int) -> socket.socket:
        end = self._open.enter_context(self._world.socket(role, self._at.family, kind))
        end.settimeout(self._patience)
        return end

    def __enter__(self) -> Flows:
        """Open every flow and start."""
        try:
            self._udp: list[tuple[str, socket.socket]] = []
            self._server = self._socket("server", socket.SOCK_DGRAM)
            self._server.bind((self._at.server, THROUGH))
            for name, role, address, port in (
                ("through NAT", "client", self._at.server, THROUGH),
                ("container to host", "client", self._at.bridge, TO_HOST),
                ("outside to host", "server", self._at.uplink, TO_HOST),
                ("container to bridge", "client", self._at.bridge, FAULTY),
                ("outside to every address", "server", self._at.uplink, FAULTY),
            ):
                end = self._socket(role, socket.SOCK_DGRAM)
                end.connect((address, port))
                self._udp.append((name, end))
            self._listener = self._socket("server", socket.SOCK_STREAM)
            self._listener.bind((self._at.server, STREAM))
            self._listener.listen()
            self._client = self._socket("client", socket.SOCK_STREAM)
            self._client.connect((self._at.server, STREAM))
            self._peer = self._open.enter_context(self._listener.accept()[0])
            self._peer.settimeout(self._patience)
        except BaseException:
            self._open.close()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and close the transfer in order: both ends have to see its end."""
        self._stop.set()
        self._thread.join()
        with self._open:
            for one, other in ((self._client, self._peer), (self._peer, self._client)):
                with self._noting("TCP transfer, its end"):
                    one.shutdown(socket.SHUT_WR)
                    if other.recv(1) != b"":
                        self.lost.append("TCP transfer: more arrived than was sent")

    def go_on(self) -> None:
        """Wait until ``ROUNDS`` more have been."""
        with self._went:
            until = self.rounds + ROUNDS
            if not self._went.wait_for(lambda: self.rounds >= until, 2 * PATIENCE):
                self.lost.append("the traffic stands still")

    def await_loss(self) -> None:
        """Wait until something is lost."""
        with self._went:
            assert self._went.wait_for(lambda: bool(self.lost), PATIENCE)

    @contextlib.contextmanager
    def _noting(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.lost.append(f"{name}, round {self.rounds}: {error}")

    def _run(self) -> None:
        for number in itertools.count():
            for name, end in self._udp:
                with self._noting(name):
                    self._ask(name, end, f"{name} {number}".encode())
            with self._noting("TCP transfer"):
                self._transfer(self._client, self._peer, os.urandom(4096))
            if number % 10 == 0:
                with self._noting("a new flow"):
                    self._new(number)
            with self._went:
                self.rounds = number
                self._went.notify_all()
            if self._stop.wait(PACE):
                return

    def _ask(self, name: str, end: socket.socket, question: bytes) -> None:
        end.send(question)
        if end.getpeername()[1] == THROUGH:
            got, peer = self._server.recvfrom(100)
            self._server.sendto(got, peer)
        if (answer := end.recv(100)) != question:
            self.lost.append(f"{name}: asked {question!r}, got {answer!r}")

    def _transfer(self, client: socket.socket, server: socket.socket, chunk: bytes) -> None:
        for one, other in ((client, server), (server, client)):
            one.sendall(chunk)
            got = other.recv(len(chunk), socket.MSG_WAITALL)
            if got != chunk:
                self.lost.append(f"TCP transfer: {len(got)} of {len(chunk)} bytes")
            self.bytes += len(got)

    def _new(self, number: int) -> None:
        """Open a UDP flow and a TCP connection that were not there before."""
        with (
            self._world.socket("client", self._at.family, socket.SOCK_DGRAM) as asking,
            self._world.socket("client", self._at.family, socket.SOCK_STREAM) as client,
        ):
            for end in (asking, client):
                end.settimeout(self._patience)
            asking.connect((self._at.server, THROUGH))
            self._ask("a new flow", asking, f"new {number}".encode())
            client.connect((self._at.server, STREAM))
            with self._listener.accept()[0] as server:
                server.settimeout(self._patience)
                self._transfer(client, server, b"new")


def remedy(world: World, policy: str, *words: str) -> dict[str, Any]:
    """Run the command line against the world's host; return its JSON."""
    done = forked_cli.run(*world.remedy, *words, "--policy", policy, "--json")
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize(("fix", "nat", "family", "backend"), CASES)
def test_nothing_is_lost(tmp_path: Path, fix: str, nat: str, family: int, backend: str) -> None:
    with World("udp-wildcard-v6", Options(nat, family, backend=backend)) as world:
        container_host(world)
        at = addresses(world)
        policy = tmp_path / "policy.yaml"
        base = "docker-host" if fix == "udp-redirect" else "default"
        text = POLICIES[fix].replace("%s", json.dumps(at.uplink))
        policy.write_text(f"apiVersion: remedy/v1\nname: live\nextends: {base}\n{text}")
        everywhere = "::" if family == 6 else "0.0.0.0"
        world.start("host", ["remedies.lab.udp_server", everywhere, str(FAULTY)])
        world.start("host", ["remedies.lab.udp_server", at.uplink, str(TO_HOST)])
        world.start("host", ["remedies.lab.udp_server", at.bridge, str(TO_HOST)])
        before = dump(world)
        with Flows(world) as flows:
            flows.go_on()
            if fix == "udp-redirect":  # the fault's own client: the flow that the plan names
                assert not ask(world, "client", at.family, at.uplink, FAULTY).alive
            applied = remedy(world, str(policy), "apply", "--yes", "--window", "0")
            assert fix in {change["fix"] for change in applied["changes"]}
            assert applied["outcome"] == "applied"
            flows.go_on()
            in_force = dump(world)
            assert difference(before, in_force) != ""
            again = remedy(world, str(policy), "apply", "--yes", "--window", "0")
            assert again["outcome"] == "nothing"
            flows.go_on()
            undone = remedy(world, str(policy), "rollback", "--yes", "--every")
            assert undone["outcome"] == "rolled-back"
            flows.go_on()
        assert flows.lost == []
        assert flows.bytes >= flows.rounds * 2 * 4096
        assert difference(before, dump(world)) == ""


def test_a_rule_that_cuts_a_flow_is_noticed() -> None:
    """What the other tests rest on: the traffic does see a datagram that is dropped."""
    with World("udp-wildcard-v6", Options()) as world:
        container_host(world)
        at = addresses(world)
        world.start("host", ["remedies.lab.udp_server", "0.0.0.0", str(FAULTY)])
        world.start("host", ["remedies.lab.udp_server", "0.0.0.0", str(TO_HOST)])
        with Flows(world, patience=2.0) as flows:
            flows.go_on()
            assert flows.lost == []
            chain = (
                "add chain inet cut forward { type filter hook forward priority 0; policy accept; }"
            )
            rule = f"add rule inet cut forward ip saddr {at.client} udp dport {THROUGH} drop"
            text = f"add table inet cut\n{chain}\n{rule}\n"
            world.run("host", ["nft", "-f", "-"], text)
            flows.await_loss()
            world.run("host", ["nft", "delete", "table", "inet", "cut"])
        assert any(line.startswith("through NAT") for line in flows.lost)
