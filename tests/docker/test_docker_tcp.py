"""A container's transfer through Docker's own masquerade: reset, proven, fixed, undone."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from typing import Any

import pytest
from docker_host import SLEEP, DockerHost
from docker_remedy import Remedy

from remedies.lab.ruleset import difference
from remedies.lab.scenarios import tcp_invalid_reset
from remedies.lab.topology import addresses

LOOPBACK = {4: "127.0.0.1", 6: "::1"}
FAR = 100_000_000
HTTPD = ("-p", "8080:80", "--", "/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www")


def lives(host: DockerHost) -> bool:
    """Run one transfer between container and server, with a segment far above the window."""
    return tcp_invalid_reset.transfer(host, FAR).alive


def fetch(host: DockerHost, role: str, address: str) -> bytes:
    """Return what the published port answers to a namespace."""
    client = http.client.HTTPConnection(address, 8080)
    client.sock = host.socket(role, addresses(host).family, socket.SOCK_STREAM)
    try:
        client.sock.settimeout(5.0)
        client.sock.connect((address, 8080))
        client.request("GET", "/")
        return client.getresponse().read()
    finally:
        client.close()


def published(host: DockerHost) -> bool:
    """Tell whether the published port answers from outside, from the host, from a container."""
    uplink = addresses(host).uplink
    asked = [
        ("server", uplink),
        ("host", uplink),
        ("host", LOOPBACK[host.options.family]),
        ("client", uplink),
    ]
    return all(fetch(host, *each) == b"published\n" for each in asked)


def verdict(found: dict[str, Any]) -> str:
    """Return the verdict on tcp-invalid-reset."""
    (one,) = [f for f in found["findings"] if f["condition"] == "tcp-invalid-reset"]
    return str(one["verdict"])


@pytest.fixture(scope="module")
def two(running: DockerHost) -> None:
    running.container("busy", *SLEEP)
    running.container("web", *HTTPD)


@pytest.fixture
def host_with_two(containers: DockerHost, two: None) -> DockerHost:
    containers.locate("busy", "client")
    return containers


def test_proven_while_it_happens(host_with_two: DockerHost, remedy: Remedy) -> None:
    before = host_with_two.tables()
    assert verdict(remedy("scan", "--window", "0")) == "exposed"
    running = remedy.start(*remedy.netns, "scan", "--window", "1.5", "--json")
    while running.poll() is None:
        assert not lives(host_with_two)
    found = remedy.finish(running, code=2)
    assert verdict(found) == "proven"
    assert host_with_two.address_of("busy") in str(found["findings"][0]["message"])
    assert difference(before, host_with_two.tables()) == ""


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_fixed_and_undone(host_with_two: DockerHost, remedy: Remedy, backend: str) -> None:
    host = host_with_two
    before = host.tables()
    assert published(host)
    applied = remedy("apply", "--yes", "--window", "0", "--backend", backend)
    assert applied["outcome"] == "applied"
    assert difference(before, host.docker_tables(before)) == ""
    assert lives(host)
    assert published(host)
    assert verdict(remedy("scan", "--window", "0")) == "mitigated"

    for change, back in daemon_at_work(host):
        change()
        assert lives(host)
        assert published(host)
        assert {e["state"] for e in remedy("status")["in_force"]} == {"ours"}
        back()
    assert difference(before, host.docker_tables(before)) == ""

    assert remedy("rollback", "--yes")["outcome"] == "rolled-back"
    assert difference(before, host.tables()) == ""
    assert published(host)
    assert not lives(host)


def daemon_at_work(host: DockerHost) -> list[tuple[Callable[[], object], Callable[[], object]]]:
    """Return what a daemon does to its rules while ours stand, each with its way back."""

    def restart() -> None:
        host.docker("restart", "-t", "0", "busy", "web")
        host.locate("busy", "client")

    return [
        (restart, lambda: None),
        (
            lambda: host.docker("network", "create", "more"),
            lambda: host.docker("network", "rm", "more"),
        ),
    ]
