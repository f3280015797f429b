"""UDP servers beside real containers: asked on one address, they answer from another."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from docker_host import SLEEP, DockerHost
from docker_remedy import Remedy
from tracked import remember

from remedies.lab.datagram import ask
from remedies.lab.ruleset import difference
from remedies.lab.topology import addresses
from remedies.lab.world import TrafficOutcome

SERVER = "remedies.lab.udp_server"
FIX = "udp-redirect"
POLICY = ("--policy", "docker-host")
BACKENDS = pytest.mark.parametrize("backend", ["nftables", "iptables"])
WILDCARD = {4: "0.0.0.0", 6: "::"}
GATEWAY = {4: "172.18.0.1", 6: "fd17:173::1"}
"""The address of the user network's bridge."""
HOST_PORT = 56789
PUBLISHED = 4000


def asked(host: DockerHost, port: int) -> TrafficOutcome:
    """Ask the host's uplink address from the container ``client``, over a new socket."""
    at = addresses(host)
    return ask(host, "client", at.family, at.uplink, port)


def answers(host: DockerHost, port: int, role: str = "client") -> bool:
    """Tell whether a new client that has to be answered is."""
    at = addresses(host)
    with host.wanted(alive=True):
        return ask(host, role, at.family, at.uplink, port).alive


def finding(host: DockerHost, found: dict[str, Any], condition: str, port: int) -> dict[str, Any]:
    """Return the finding on one condition and on the port's server of the world's family."""
    subject = {4: f"udp 0.0.0.0:{port}", 6: f"udp [::]:{port}"}[host.options.family]
    (one,) = [
        f for f in found["findings"] if (f["condition"], f["subject"]) == (condition, subject)
    ]
    return dict(one)


class Client:
    """One connected socket of a container, as a program that keeps asking has."""

    def __init__(self, host: DockerHost, port: int) -> None:
        at = addresses(host)
        self._socket = host.socket("client", at.family, socket.SOCK_DGRAM)
        self._socket.connect((at.uplink, port))
        self._number = 0

    def close(self) -> None:
        self._socket.close()

    def answered(self, patience: float) -> bool:
        """Send one datagram; tell whether it comes back within ``patience`` seconds."""
        self._number += 1
        question = f"question {self._number}".encode()
        self._socket.settimeout(patience)
        self._socket.send(question)
        try:
            return self._socket.recv(65536) == question
        except TimeoutError:
            return False


@pytest.fixture(scope="module")
def at_the_bridge(running: DockerHost) -> str:
    """Give the name of a container that asks."""
    running.container("guest", *SLEEP)
    return "guest"


@pytest.fixture(scope="module")
def pair(running: DockerHost) -> str:
    """Two containers on one user network; the first publishes a UDP port, the second asks.

    Gives the name of the second.
    """
    both = ("--ipv6", "--subnet", "fd17:173::/64") if running.options.family == 6 else ()
    running.docker("network", "create", *both, "--subnet", "172.18.0.0/16", "pair")
    publish = ("-p", f"{PUBLISHED}:{PUBLISHED}/udp")
    running.container("answerer", "--network", "pair", *publish, *SLEEP)
    running.container("asker", "--network", "pair", *SLEEP)
    return "asker"


@pytest.fixture
def wildcard(containers: DockerHost, at_the_bridge: str) -> DockerHost:
    """A server on every address of the host, and a container that asks."""
    containers.locate(at_the_bridge, "client")
    containers.start("host", [SERVER, WILDCARD[containers.options.family], str(HOST_PORT)])
    return containers


@pytest.fixture
def hairpin(containers: DockerHost, pair: str) -> DockerHost:
    """The first of the pair answers."""
    containers.locate(pair, "client")
    containers.start("answerer", [SERVER, WILDCARD[containers.options.family], str(PUBLISHED)])
    return containers


def test_a_wildcard_server_of_the_host(wildcard: DockerHost, remedy: Remedy) -> None:
    before, at = wildcard.tables(), addresses(wildcard)
    assert f"answer came from {at.bridge}" in asked(wildcard, HOST_PORT).detail
    scanned = remedy("scan", "--window", "0", code=2)
    found = finding(wildcard, scanned, "udp-reply-source", HOST_PORT)
    assert found["verdict"] == "proven"
    assert at.uplink in found["message"]
    assert at.bridge in found["message"]
    assert difference(before, wildcard.tables()) == ""


def test_docker_proxy_between_two_containers(hairpin: DockerHost, remedy: Remedy) -> None:
    before = hairpin.tables()
    assert answers(hairpin, PUBLISHED, "server")
    assert f"answer came from {GATEWAY[hairpin.options.family]}" in asked(hairpin, PUBLISHED).detail
    scanned = remedy("scan", "--window", "0", code=2)
    found = finding(hairpin, scanned, "udp-proxy-hairpin", PUBLISHED)
    assert found["verdict"] == "proven"
    assert "docker-proxy of container answerer" in found["message"]
    assert not any(f["condition"] == "udp-reply-source" for f in scanned["findings"])
    assert difference(before, hairpin.tables()) == ""


def test_apply_as_the_readme_says_names_the_way_out_of_the_outage(
    hairpin: DockerHost, remedy: Remedy
) -> None:
    """default only advises on docker-proxy: the outage stays, and apply says how to end it."""
    remember(hairpin)
    assert not asked(hairpin, PUBLISHED).alive
    for _ in range(2):
        remedy("apply", "--yes", "--window", "0")
        left = remedy("apply", "--yes", "--window", "0")["left"]
        assert [(x["condition"], x["policies"]) for x in left] == [
            ("udp-proxy-hairpin", ["docker-host"])
        ]
    assert not asked(hairpin, PUBLISHED).alive
    remedy("apply", "--yes", "--window", "0", "--policy", left[0]["policies"][0])
    assert answers(hairpin, PUBLISHED)
    remedy("apply", "--yes", "--window", "0")
    assert answers(hairpin, PUBLISHED)


@BACKENDS
def test_the_host_s_server_redirected(wildcard: DockerHost, remedy: Remedy, backend: str) -> None:
    redirected(wildcard, remedy, backend, HOST_PORT, "udp-reply-source")


@BACKENDS
def test_docker_proxy_redirected(hairpin: DockerHost, remedy: Remedy, backend: str) -> None:
    redirected(hairpin, remedy, backend, PUBLISHED, "udp-proxy-hairpin")
    assert answers(hairpin, PUBLISHED, "server")


def redirected(host: DockerHost, remedy: Remedy, backend: str, port: int, condition: str) -> None:
    """The client that failed is answered at once; undone, a new one fails as before."""
    before = host.tables()
    client = Client(host, port)
    try:
        assert not client.answered(0.3)
        applied = remedy("apply", "--yes", "--window", "0", "--backend", backend, *POLICY)
        fixes = {change["fix"] for change in applied["changes"]}
        assert FIX in fixes
        assert client.answered(20.0)
        assert client.answered(20.0)
    finally:
        client.close()
    assert difference(before, host.docker_tables(before)) == ""
    assert answers(host, port)
    scanned = remedy("scan", "--window", "0", *POLICY)
    found = finding(host, scanned, condition, port)
    assert found["verdict"] == "mitigated"
    host.docker("network", "create", "more")
    assert answers(host, port)
    host.docker("network", "rm", "more")
    assert difference(before, host.docker_tables(before)) == ""

    assert remedy("rollback", "--yes", "--every")["outcome"] == "rolled-back"
    assert not asked(host, port).alive
    assert difference(before, host.tables()) == ""
