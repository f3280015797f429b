"""Namespaces on a real kernel: entered, told apart from the machine's own, left as they were."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable

import pytest

from remedies.errors import UsageError
from remedies.facts.host import read_host
from remedies.namespaces import netns as ns

Make = Callable[..., str]


def links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def test_inside_and_back(netns: Make, run_in: Callable[..., str]) -> None:
    name, home = netns(), links()
    run_in(name, ["ip", "link", "add", "remedy-t0", "type", "bridge"])
    with ns.inside(name):
        assert links() == {"lo", "remedy-t0"}
    assert links() == home


def test_a_socket_stays_where_it_was_made(netns: Make) -> None:
    name = netns()
    with ns.inside(name):
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with probe, pytest.raises(OSError, match="unreachable"):
        probe.connect(("192.0.2.1", 9))


def test_the_machines_own_is_told_apart(netns: Make) -> None:
    name = netns()
    assert ns.is_host()
    assert read_host().netns == "host"
    with ns.inside(name):
        assert not ns.is_host()
        inner = read_host().netns
    with ns.scratch():
        other = read_host().netns
    assert len({"host", inner, other}) == 3


def test_where_process_1_may_not_be_looked_at(netns: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's first namespace counts then; the refusal itself cannot be had on demand."""
    name, stat = netns(), os.stat

    def refused(path: str) -> os.stat_result:
        if path == "/proc/1/ns/net":
            raise PermissionError(13, "Permission denied")
        return stat(path)

    monkeypatch.setattr(os, "stat", refused)
    assert ns.is_host()
    with ns.inside(name):
        assert not ns.is_host()


def test_a_pid_and_a_path_name_a_namespace_too(netns: Make) -> None:
    name = netns()
    assert ns.path_of(name) == f"/run/netns/{name}"
    with subprocess.Popen(["sleep", "30"]) as child:
        try:
            assert ns.path_of(str(child.pid)) == f"/proc/{child.pid}/ns/net"
        finally:
            child.kill()
    with pytest.raises(UsageError, match="no network namespace '/no/such'"):
        ns.path_of("/no/such")
