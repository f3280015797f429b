"""Which networks and programs have lost their NAT rules, and which have not."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from run_in import RunIn

from remedies.facts import owners
from remedies.facts.gather import read_facts
from remedies.facts.host import read_host
from remedies.facts.wiped import Wiped
from remedies.namespaces.netns import inside

SUBNET = "172.17.0.0/16"
DOCKERS = """\
table ip nat {
 chain PREROUTING { type nat hook prerouting priority -100
  fib daddr type local jump DOCKER
 }
 chain DOCKER { return
 }
}
"""
NAT = """\
table ip t {
 chain post { type nat hook postrouting priority 100
  %s masquerade
 }
}
"""


@pytest.fixture
def host(netns: Callable[..., str], run_in: RunIn) -> str:
    """A host with a bridge that a container is plugged into, and a way out."""
    made, container = netns("h"), netns("c")
    for line in (
        "link add docker0 type bridge",
        f"link add veth0 type veth peer name eth0 netns {container}",
        "link set veth0 master docker0",
        "addr add 172.17.0.1/16 dev docker0",
        "link add eth0 type veth peer name out",
        "addr add 10.21.17.99/24 dev eth0",
        "link set veth0 up",
        "link set docker0 up",
        "link set eth0 up",
        "link set out up",
        "route add default via 10.21.17.1",
    ):
        run_in(made, ["ip", *line.split()])
    return made


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's configuration file; nothing of this machine's own is looked at."""
    monkeypatch.setattr(owners, "ROOT", str(tmp_path))
    path = tmp_path / "etc/docker/daemon.json"
    path.parent.mkdir(parents=True)
    return path


@contextlib.contextmanager
def running(name: str, host: str, folder: Path, *words: str) -> Iterator[int]:
    """Run something in the host's namespace that has a program's name, and its arguments."""
    program = folder / name
    program.write_text("#!/bin/sh\necho ready\nread line\n")
    program.chmod(0o755)
    with inside(host):
        child = subprocess.Popen(
            [str(program), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        try:
            yield child.pid
        finally:
            child.stdin.close()


def looked(host: str) -> Wiped:
    with inside(host):
        return read_facts(read_host(), [Wiped]).get(Wiped)


def rules(run_in: RunIn, host: str, text: str) -> None:
    run_in(host, ["nft", "-f", "-"], stdin=f"flush ruleset\n{text}\n")


def test_a_bridge_that_is_routed_by_design(host: str, configured: Path) -> None:
    assert looked(host) == Wiped()


def test_docker_runs_and_has_lost_its_rules(
    host: str, configured: Path, tmp_path: Path, run_in: RunIn
) -> None:
    with running("dockerd", host, tmp_path) as pid:
        found = looked(host)
        assert [(each.program, each.seen) for each in found.lost] == [("Docker", f"process {pid}")]
        (bare,) = found.networks
        assert (bare.network.link, bare.program, bare.turned) == ("docker0", "Docker", None)
        rules(run_in, host, NAT % 'oifname "wg0"')  # somebody's own, for what leaves elsewhere
        assert looked(host) == found
        for theirs in (NAT % f"ip saddr {SUBNET}", NAT % "", DOCKERS + NAT % f"ip saddr {SUBNET}"):
            rules(run_in, host, theirs)
            assert looked(host) == Wiped(), theirs
        rules(run_in, host, DOCKERS + NAT % 'oifname "wg0"')  # Docker's are there: its choice
        assert looked(host) == Wiped()


@pytest.mark.parametrize("words", [(), ("--iptables=false",), ("--config-file", "/own.json")])
def test_docker_is_told_to_leave_iptables_alone(
    words: tuple[str, ...], host: str, configured: Path, tmp_path: Path
) -> None:
    path = tmp_path / "own.json" if "--config-file" in words else configured
    if "--iptables=false" not in words:
        path.write_text(json.dumps({"iptables": False}))
    with running("dockerd", host, tmp_path, *words):
        assert looked(host) == Wiped()


def test_what_docker_is_told_cannot_be_read(host: str, configured: Path, tmp_path: Path) -> None:
    configured.write_text("{")
    with running("dockerd", host, tmp_path):
        found = looked(host)
    assert (found.lost, found.networks) == ((), ())
    assert "daemon.json" in " ".join(found.unread)


def test_a_unit_that_flushes_and_kube_proxy(host: str, configured: Path, tmp_path: Path) -> None:
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    os.symlink("/lib/systemd/system/nftables.service", wants / "nftables.service")
    (tmp_path / "etc/nftables.conf").write_text("flush ruleset\n")
    with running("dockerd", host, tmp_path), running("kube-proxy", host, tmp_path):
        found = looked(host)
    assert {each.program for each in found.lost} == {"Docker", "kube-proxy"}
    assert "nftables.service" in found.flusher
    assert not found.firewalld
