"""``remedy trace`` while faults happen, and while things that look like them do; v4 and v6."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from tracing import families, rule, trace

from remedies import codec
from remedies.facts import Asking, tap
from remedies.facts.host import read_host
from remedies.lab import scenarios
from remedies.lab.segment import Ear, forge
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, World
from remedies.namespaces.netns import inside


@families
def test_a_reset_for_a_flow_that_nat_owns_is_proven_as_it_happens(family: int) -> None:
    scenario = scenarios.load("tcp-invalid-reset")
    with World(scenario.CONDITION, Options(family=family)) as world, trace(world) as seen:
        scenario.build(world)
        assert not scenario.traffic(world).alive
        event = seen.await_event(condition="tcp-invalid-reset")
        summary = seen.end()
    at = addresses(world)
    assert event["verdict"] == "proven"
    assert event["reason"] == "NO_SOCKET"
    assert event["event"] == "reset"
    assert (event["source"], event["destination"]) == (at.uplink, at.server)
    assert event["flow"]["original"]["source"] == at.client
    assert "443 for a flow that NAT translates for " + at.client in event["message"]
    assert summary["proven"] == {"tcp-invalid-reset": 1}
    assert summary["reasons"] == "tracefs: tcp_send_reset"
    assert (summary["lost"], summary["unexamined"], summary["unread"]) == (0, 0, [])


@families
def test_a_refused_answer_proves_its_source_and_names_the_server(family: int) -> None:
    scenario = scenarios.load("udp-reply-source")
    with World(scenario.CONDITION, Options(family=family)) as world:
        scenario.build(world)
        with trace(world) as seen:
            with inside(world.namespace("host")):
                watch = tap.watch(Asking(read_host(), window=1.0))
            assert not scenario.traffic(world).alive
            event = seen.await_event(condition="udp-reply-source")
            seen.end()
            with inside(world.namespace("host")):
                fact = watch.finish()
    at = addresses(world)
    (refusal,) = fact.refusals
    assert (refusal.source, refusal.source_port, refusal.count) == (at.bridge, 56789, 1)
    assert refusal.request is not None
    assert refusal.request.original.destination == at.uplink
    assert codec.decode(tap.Tap, codec.encode(fact), "tap") == fact
    assert (event["event"], event["verdict"]) == ("refused", "proven")
    assert (event["source"], event["destination"]) == (at.bridge, at.client)
    assert event["flow"]["original"]["destination"] == at.uplink
    assert "remedies.lab.udp_server" in event["process"]["argv"]


@families
@pytest.mark.parametrize("name", ["tcp-invalid-reset", "udp-reply-source"])
def test_a_healthy_twin_is_not_accused(name: str, family: int) -> None:
    scenario = scenarios.load(name)
    with World(name, Options(family=family, healthy=True)) as world:
        scenario.build(world)
        with trace(world) as seen:
            assert scenario.traffic(world).alive
            summary = seen.end()
    assert summary["proven"] == {}
    assert seen.lines == [summary]


@contextlib.contextmanager
def connected(
    world: World, role: str, end: tuple[str, int], port: int, to: str = ""
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give both ends of a connection from ``role``, port 7000, to a listener at ``end``.

    ``to``: the address that is connected to, where NAT brings it to ``end``.
    """
    family = addresses(world).family
    listening = "client" if role == "server" else "server"
    if to == "proxy":
        listening = "host"
    with (
        world.socket(listening, family, socket.SOCK_STREAM) as listener,
        world.socket(role, family, socket.SOCK_STREAM) as client,
    ):
        for each in (listener, client):
            each.settimeout(10.0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(end)
        listener.listen(1)
        client.bind(("", 7000))
        at = addresses(world)
        client.connect((at.uplink if role == "server" else at.server, port))
        server, _ = listener.accept()
        with server:
            server.settimeout(10.0)
            yield client, server


DNAT = "type nat hook prerouting priority -100"
FORWARD = "type filter hook forward priority 0"
INPUT = "type filter hook input priority 0"


@families
def test_a_published_port_is_proven_from_the_other_side(family: int) -> None:
    with World("published", Options(family=family)) as world:
        container_host(world)
        at = addresses(world)
        target = f"[{at.client}]:8080" if family == 6 else f"{at.client}:8080"
        name = "ip6" if family == 6 else "ip"
        rule(world, "host", f"{name} daddr {at.uplink} tcp dport 80 dnat to {target}", DNAT)
        with (
            trace(world) as seen,
            Ear(world, "server", 7000) as ear,
            connected(world, "server", (at.client, 8080), 80) as (client, server),
        ):
            with inside(world.namespace("host")):
                watch = tap.watch(Asking(read_host(), window=1.0))
            client.sendall(b"data")
            assert server.recv(4) == b"data"
            ear.listen()
            where = ear.position.__class__(
                ear.position.sequence + 100_000_000, ear.position.acknowledge
            )
            with world.socket("server", at.family, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
                segment = forge((at.server, 7000), (at.uplink, 80), where, b"stray")
                raw.sendto(segment, (at.uplink, 0))
            event = seen.await_event(condition="tcp-invalid-reset")
            seen.end()
            with inside(world.namespace("host")):
                fact = watch.finish()
    assert (event["source"], event["source_port"]) == (at.uplink, 80)
    assert f"NAT translates for {at.client}" in event["message"]
    (reset,) = fact.resets
    assert reset.flow is not None
    assert reset.flow.reply.source == at.client


def test_a_firewalls_reject_of_a_nat_flow_is_nobodys_fault() -> None:
    with World("reject", Options()) as world:
        container_host(world)
        at = addresses(world)
        with (
            trace(world) as seen,
            connected(world, "client", (at.server, 443), 443) as (_, server),
        ):
            rule(world, "host", "tcp sport 443 reject with tcp reset", FORWARD)
            server.sendall(b"data")
            with pytest.raises(ConnectionResetError):
                server.recv(1)
            event = seen.await_event(event="reset", destination=at.server)
            summary = seen.end()
    assert event["verdict"] is None
    assert "REJECT" in event["message"]
    assert summary["proven"] == {}


def test_a_local_proxys_own_reset_is_nobodys_fault() -> None:
    with World("proxy", Options()) as world:
        container_host(world)
        at = addresses(world)
        rule(world, "host", f"ip daddr {at.server} tcp dport 80 redirect to :3128", DNAT)
        with inside(world.namespace("host")):
            watch = tap.watch(Asking(read_host(), window=1.0))
        with (
            trace(world) as seen,
            connected(world, "client", (at.bridge, 3128), 80, "proxy") as (client, server),
        ):
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            server.close()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            event = seen.await_event(event="reset", destination=at.client)
            seen.end()
        with inside(world.namespace("host")):
            fact = watch.finish()
    assert event["source"] == at.server
    assert event["verdict"] is None
    assert seen.proofs == []
    assert [reset.flow for reset in fact.resets] == [None]


@families
def test_a_server_that_connects_to_its_first_client_is_proven(family: int) -> None:
    with World("netcat", Options(family=family)) as world:
        container_host(world)
        at = addresses(world)
        with (
            trace(world) as seen,
            world.socket("host", at.family, socket.SOCK_DGRAM) as server,
            world.socket("client", at.family, socket.SOCK_DGRAM) as client,
        ):
            server.settimeout(10.0)
            server.bind(("", 5000))
            client.connect((at.uplink, 5000))
            client.send(b"one")
            _, sender = server.recvfrom(16)
            server.connect(sender)
            client.send(b"two")
            event = seen.await_event(condition="udp-connected-server")
            server.send(b"answer")
            answer = seen.await_event(condition="udp-connected-server", event="refused")
            seen.end()
    assert event["process"]["pid"] == answer["process"]["pid"] == os.getpid()
    assert (event["event"], answer["event"]) == ("refusal", "refused")
    assert at.bridge in event["message"]


@families
def test_a_client_that_did_not_wait_is_nobodys_fault(family: int) -> None:
    with World("gone", Options(family=family)) as world:
        container_host(world)
        at = addresses(world)
        with trace(world) as seen, world.socket("host", at.family, socket.SOCK_DGRAM) as server:
            server.settimeout(10.0)
            server.bind((at.bridge, 53))
            with world.socket("client", at.family, socket.SOCK_DGRAM) as client:
                client.connect((at.bridge, 53))
                client.send(b"ask")
                _, sender = server.recvfrom(16)
            server.sendto(b"answer", sender)
            event = seen.await_event(event="refused")
            seen.end()
    assert event["verdict"] is None
    assert "no process listens at" in event["message"]


def test_a_syn_that_is_repeated_is_told_on_request() -> None:
    with World("syn", Options()) as world:
        container_host(world)
        at = addresses(world)
        rule(world, "server", "tcp dport 81 drop", INPUT)
        with (
            trace(world, "--syn") as seen,
            world.socket("client", socket.AF_INET, socket.SOCK_STREAM) as client,
        ):
            client.setblocking(False)
            client.connect_ex((at.server, 81))
            event = seen.await_event(event="syn")
            seen.end()
    assert event["count"] == 2
    assert f"NAT for {at.client}" in event["message"]
    assert event["source"] == at.uplink


def test_without_tracing_the_tap_alone_is_the_proof() -> None:
    scenario = scenarios.load("tcp-invalid-reset")
    with World(scenario.CONDITION, Options()) as world:
        scenario.build(world)
        with trace(world, drop="sys_admin") as seen:
            assert not scenario.traffic(world).alive
            event = seen.await_event(condition="tcp-invalid-reset")
            summary = seen.end()
    assert event["reason"] is None
    assert summary["reasons"].startswith("none: tracefs: ")


def test_without_packet_sockets_there_is_one_clear_error(netns: Callable[..., str]) -> None:
    done = subprocess.run(
        ["setpriv", "--bounding-set=-net_raw", sys.executable, "-m", "remedies", "--netns", netns(),
         "trace"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 77
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.endswith("run as root")
