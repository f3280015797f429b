"""Our own fixes doing harm: seen by status, and not seen where nothing is wrong.

A client reaches a server through the host; the server answers by a cable of its own. conntrack on
the host sees one direction, the client's ACKs are INVALID, and our rule drops them.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked_cli
import pytest
from older_form import be_older
from run_in import RunIn

from remedies.facts.oneway import program, way_of
from remedies.namespaces import netns as namespaces
from remedies.netlink.flow import Tuple

NAT = """
table ip theirs {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 172.17.0.0/16 oifname "eth9" masquerade
    }
}
"""
POLICY = """\
apiVersion: remedy/v1
name: sip
extends: default
require:
  - {fix: notrack, params: {protocol: udp, ports: [5060], addresses: [10.0.2.1]}, reason: "SIP"}
"""


class Triangle:
    """Client, host and server, each joined to the other two."""

    def __init__(self, netns: Callable[..., str], run_in: RunIn, state: Path) -> None:
        self.client, self.host, self.server = netns("c"), netns("h"), netns("s")
        self._run, self._state = run_in, str(state)
        self._cable(self.client, "ch", "10.0.1.2", self.host, "hc", "10.0.1.1")
        self._cable(self.host, "hs", "10.0.2.1", self.server, "sh", "10.0.2.2")
        self._cable(self.server, "sc", "10.0.3.1", self.client, "cs", "10.0.3.2")
        for ns in (self.client, self.server):
            for link in ("all", "default", *(("ch", "cs") if ns == self.client else ("sh", "sc"))):
                run_in(ns, ["sysctl", "-qw", f"net.ipv4.conf.{link}.rp_filter=0"])
        run_in(self.host, ["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        run_in(self.client, ["ip", "route", "add", "10.0.2.0/24", "via", "10.0.1.1"])
        run_in(self.server, ["ip", "route", "add", "10.0.1.0/24", "via", "10.0.2.1"])
        run_in(self.host, ["nft", "-f", "-"], stdin=NAT)

    def _cable(self, one: str, link: str, address: str, other: str, end: str, peer: str) -> None:
        self._run(one, ["ip", "link", "add", link, "type", "veth",
                        "peer", "name", end, "netns", other])  # fmt: skip
        for ns, name, mine in ((one, link, address), (other, end, peer)):
            self._run(ns, ["ip", "addr", "add", f"{mine}/24", "dev", name])
            self._run(ns, ["ip", "link", "set", name, "up"])

    def answers_directly(self) -> None:
        """Let the server's answers pass the host by."""
        self._run(self.server, ["ip", "route", "replace", "10.0.1.0/24", "via", "10.0.3.2"])

    def remedy(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run a command line on the host and return its JSON."""
        place = ("--netns", self.host, "--state-dir", self._state)
        done = forked_cli.run(*place, "--json", *words, env=os.environ, prepare=be_older)
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        plain: dict[str, Any] = json.loads(done.stdout)
        return plain

    def run(self, *argv: str, stdin: str | None = None) -> None:
        """Run a program on the host."""
        self._run(self.host, argv, stdin=stdin)

    def connected(self) -> tuple[socket.socket, socket.socket]:
        """Return a client's connection and the server's listener."""
        with namespaces.inside(self.server):
            listener = socket.create_server(("10.0.2.2", 80))
        return self.another(), listener

    def another(self) -> socket.socket:
        """Return one more connection of the client."""
        with namespaces.inside(self.client):
            client = socket.create_connection(("10.0.2.2", 80), timeout=5)
        client.setblocking(False)
        return client


@pytest.fixture
def triangle(netns: Callable[..., str], run_in: RunIn, tmp_path: Path) -> Triangle:
    made = Triangle(netns, run_in, tmp_path)
    made.remedy("apply", "--yes", "--window", "0")
    return made


def test_drops_that_hit_connections_in_good_health_are_harm(triangle: Triangle) -> None:
    triangle.answers_directly()
    client, listener = triangle.connected()
    with contextlib.ExitStack() as held:
        held.enter_context(listener)
        clients = [held.enter_context(client)]
        clients += [held.enter_context(triangle.another()) for _ in range(40)]
        stop = threading.Event()
        talking = threading.Thread(target=_begin_to_talk, args=(clients, stop))
        talking.start()  # what is unanswered comes again ever more seldom
        try:
            status = triangle.remedy("status", code=2)
        finally:
            stop.set()
            talking.join()
    (harm,) = status["harm"]
    assert (harm["fix"], harm["resource"]) == ("invalid-drop", "nft:inet/remedy_invalid_drop")
    port = "-> 10.0.2.2:80"
    assert port in harm["reason"]
    assert "SYN_SENT" in harm["reason"]


def test_a_plan_names_the_connections_that_its_drop_would_cut(
    netns: Callable[..., str], run_in: RunIn, tmp_path: Path
) -> None:
    """A dead server's entry is not among them; with no time to listen they are only counted."""
    triangle = Triangle(netns, run_in, tmp_path)
    triangle.answers_directly()
    client, listener = triangle.connected()
    with client, listener, namespaces.inside(triangle.client), socket.socket() as dead:
        dead.setblocking(False)
        with pytest.raises(BlockingIOError):
            dead.connect(("10.0.2.99", 80))
        stop = threading.Event()
        talking = threading.Thread(target=_talk, args=(client, stop))
        talking.start()
        try:
            (drop,) = triangle.remedy("plan", "--window", "1")["changes"]
            (blind,) = triangle.remedy("plan", "--window", "0")["changes"]
        finally:
            stop.set()
            talking.join()
        port = client.getsockname()[1]
    assert f"loses 1 flow: tcp 10.0.1.2:{port} -> 10.0.2.2:80; takes" in drop["impact"]
    assert "loses no flow; may cut up to 2 " in blind["impact"]


def _begin_to_talk(clients: list[socket.socket], stop: threading.Event) -> None:
    """Send on one connection after the other, until the end is asked for."""
    for client in clients:
        client.send(b"hello")
        if stop.wait(0.25):
            return


def _talk(client: socket.socket, stop: threading.Event) -> None:
    while not stop.wait(0.02):
        client.send(b"x")


def test_a_dead_server_is_no_harm(triangle: Triangle) -> None:
    """Entries without a reply, and a rule that has dropped something for a good reason."""
    triangle.answers_directly()
    client, listener = triangle.connected()
    client.send(b"hello")
    client.close()
    listener.close()
    triangle.run("conntrack", "-D", "-p", "tcp", "--dport", "80")
    with namespaces.inside(triangle.client), socket.socket() as dead:
        dead.setblocking(False)
        with pytest.raises(BlockingIOError):
            dead.connect(("10.0.2.99", 80))
        status = triangle.remedy("status")
    assert status["harm"] == []


def test_a_sound_connection_is_no_harm(triangle: Triangle) -> None:
    client, listener = triangle.connected()
    with client, listener:
        client.send(b"hello")
        assert triangle.remedy("status")["harm"] == []


def test_new_nat_beside_our_notrack_is_harm(triangle: Triangle, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    triangle.remedy("apply", "--policy", str(policy), "--yes", "--window", "0")
    assert triangle.remedy("status")["harm"] == []
    nat = "table ip late {\nchain prerouting {\ntype nat hook prerouting priority dstnat\n"
    triangle.run("nft", "-f", "-", stdin=nat + "udp dport 5060 dnat to 10.0.1.2\n}\n}\n")
    (harm,) = triangle.remedy("status", code=2)["harm"]
    assert harm["resource"] == "nft:inet/remedy_notrack"
    assert "udp dport 5060 dnat to 10.0.1.2" in harm["reason"]


def test_the_filter_lets_only_the_suspects_acks_through(netns: Callable[..., str]) -> None:
    """Every flag and port over a real packet socket, for IPv4 and IPv6."""
    with namespaces.inside(netns("f")):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        code = program((1000, 2000))
        buffer = ctypes.create_string_buffer(code, len(code))
        tap.setsockopt(
            socket.SOL_SOCKET, 26, struct.pack("HP", len(code) // 8, ctypes.addressof(buffer))
        )
        tap.bind(("lo", 3))
        for family, here in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with tap.dup() as heard, socket.socket(family, socket.SOCK_RAW, 6) as raw:
                heard.settimeout(10)
                for port, flags in ((1000, 0x02), (1000, 0x12), (1000, 0x14), (3000, 0x10)):
                    raw.sendto(segment(port, flags), (here, 0))
                raw.sendto(segment(2000, 0x18), (here, 0))
                # Each packet of the loopback comes twice: as it leaves and as it arrives.
                assert {way_of(heard.recv(100)) for _ in range(2)} == {Tuple(here, 2000, here, 80)}
                heard.setblocking(False)
                with pytest.raises(BlockingIOError):
                    heard.recv(100)
        tap.close()


def segment(port: int, flags: int) -> bytes:
    return struct.pack(">HHIIBBHHH", port, 80, 1, 1, 5 << 4, flags, 100, 0, 0)
