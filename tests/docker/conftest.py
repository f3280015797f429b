"""Fixtures of the tests with a real Docker daemon. As in ``kernel/``, root skips nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_host import DockerHost, missing
from docker_remedy import Remedy

from remedies.lab.world import Options

ROOT = os.geteuid() == 0


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop a test that has no root or no Docker: a skip without root, a failure with it."""
    if not ROOT and os.environ.get("CI") != "true":
        pytest.skip("needs root: it runs a Docker daemon in a network namespace")
    if not ROOT:
        pytest.fail("these tests need root, and on CI they must run", pytrace=False)
    if missing():
        pytest.fail(f"not installed: {', '.join(missing())}; run 'make setup'", pytrace=False)


WORLDS = [
    pytest.param(("iptables-nft", 4), id="iptables-nft"),
    pytest.param(("iptables-legacy", 4), id="iptables-legacy"),
    pytest.param(("iptables-nft", 6), id="ip6tables-nft"),
]


@pytest.fixture(scope="session", params=WORLDS)
def host(request: pytest.FixtureRequest) -> Iterator[DockerHost]:
    """Give a running daemon between a container's network and a server's, without containers."""
    iptables, family = request.param
    nat = "nft" if iptables == "iptables-nft" else iptables
    with DockerHost(Options(nat, family), iptables) as made:
        yield made


@pytest.fixture(scope="module")
def running(host: DockerHost) -> Iterator[DockerHost]:
    """Give the daemon; containers and networks that a file makes are there for all its tests.

    To start one and to remove it takes a second of processor.
    """
    networks = set(host.docker("network", "ls", "-q").split())
    yield host
    host.remove(*host.docker("ps", "-aq").split())
    for network in set(host.docker("network", "ls", "-q").split()) - networks:
        host.docker("network", "rm", network)


@pytest.fixture
def containers(running: DockerHost) -> Iterator[DockerHost]:
    """Give the daemon; the processes and flows of a test end with it."""
    yield running
    running.stop_all()
    running.run("host", ["conntrack", "-F"])


@pytest.fixture
def remedy(host: DockerHost, tmp_path: Path) -> Iterator[Remedy]:
    """Give the command line; what it has applied is undone at the end."""
    made = Remedy(host, tmp_path / "state")
    yield made
    made("rollback", "--every", "--yes", "--force")
