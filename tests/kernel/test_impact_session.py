"""The live session as the kernel has it, and whether what is said of it comes true.

A server accepts one connection and starts the probe, as sshd does with a shell; the client stays
in the test. What impact.py calls severe really cuts the connection, and what it does not call so
does not.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from older_drop import OLDER
from run_in import RunIn

from remedies import codec
from remedies.facts import Facts
from remedies.facts.session import Connection, Session
from remedies.fixes import invalid_drop
from remedies.model import Change, Host, Plan, PolicyRef, Scan
from remedies.namespaces import netns as namespaces
from remedies.planning import lockout
from remedies.rules.nft_syntax import nft_text
from remedies.values import replace

SERVER = """
import json, os, socket, subprocess, sys
listener = socket.create_server((sys.argv[1], 2222), family=socket.AF_INET6 if ":" in sys.argv[1]
                                else socket.AF_INET)
print("ready", flush=True)
connection, peer = listener.accept()
listener.close()
for line in sys.stdin:
    words = line.split()
    if words[0] == "read":
        connection.settimeout(float(words[1]))
        try:
            print(json.dumps(bool(connection.recv(10))), flush=True)
        except TimeoutError:
            print("false", flush=True)
        continue
    environment = {k: v for k, v in os.environ.items() if k != "SSH_CONNECTION"}
    if words[1:]:
        environment["SSH_CONNECTION"] = " ".join(words[1:])
    subprocess.run([sys.executable, "-c", PROBE], env=environment, check=True)
"""
PROBE = """
from remedies import codec
from remedies.facts import Asking, session
from remedies.facts.host import read_host
import json
print(json.dumps(codec.encode(session.read(Asking(read_host())))), flush=True)
"""
COUNT = """
table inet t {
    chain input {
        type filter hook input priority 0; policy accept;
        ct state established counter
    }
}
"""


class Pair:
    """A server with one connection from a client, in two namespaces joined by a cable."""

    def __init__(self, ns: str, client_ns: str, address: str) -> None:
        self.ns, self.client_ns, self.address = ns, client_ns, address
        script = f"PROBE = {PROBE!r}\n{SERVER}"
        self.process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{ns}", sys.executable, "-c", script, address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={k: v for k, v in os.environ.items() if k != "SSH_CONNECTION"},
        )  # fmt: skip
        self._line()
        with namespaces.inside(client_ns):
            self.client = socket.create_connection((address, 2222), timeout=5)

    def close(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.communicate(timeout=60)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def ask(self, words: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return json.loads(self._line())

    def probe(self, claimed: str = "") -> Session:
        """Run the probe below the server, with this SSH_CONNECTION."""
        return codec.decode(Session, self.ask(f"probe {claimed}"), "session")

    @property
    def claim(self) -> str:
        return " ".join(str(part) for part in (*self.client.getsockname()[:2], self.address, 2222))

    def lives(self, patience: float = 30.0) -> bool:
        """Tell whether what the client sends arrives within so many seconds."""
        self.client.send(b"x")
        return bool(self.ask(f"read {patience}"))


@pytest.fixture
def pair(
    netns: Callable[..., str], run_in: RunIn, family: int
) -> Iterator[tuple[Pair, Callable[..., str]]]:
    server, client = netns("s"), netns("c")
    run_in(
        server, ["ip", "link", "add", "v1", "type", "veth", "peer", "name", "w1", "netns", client]
    )
    ends = ("192.0.2.1", "192.0.2.2") if family == 4 else ("2001:db8::1", "2001:db8::2")
    size = "/24" if family == 4 else "/64"
    nodad = [] if family == 4 else ["nodad"]
    for ns, link, end in ((server, "v1", ends[0]), (client, "w1", ends[1])):
        run_in(ns, ["ip", "addr", "add", end + size, "dev", link, *nodad])
        run_in(ns, ["ip", "link", "set", link, "up"])
    made = Pair(server, client, ends[0])

    def run(*argv: str, stdin: str | None = None) -> str:
        return run_in(server, argv, stdin=stdin).stdout

    yield made, run
    made.close()


World = tuple[Pair, Callable[..., str]]
BOTH = pytest.mark.parametrize("family", [4, 6])
FOUR = pytest.mark.parametrize("family", [4])


def severity(session: Session) -> str:
    """Judge a plan that drops every INVALID segment, as earlier versions did."""
    host = Host("h", "m", "k", "host", "b")
    resource = f"nft:{invalid_drop.TABLE}"
    change = Change("x", None, resource, "create", None, OLDER, "", "exact", "low", "")
    plan = Plan(Scan(host, "t", (), ()), PolicyRef((), ""), (change,), (), ())
    (found,) = lockout.judge(plan, Facts(host, "t", 0.0, {"session": session}))
    return found.severity


def only(session: Session) -> Connection:
    (connection,) = session.connections
    return connection


@BOTH
def test_an_ancestors_socket_is_found_without_the_environment(pair: World) -> None:
    """As under sudo, which drops SSH_CONNECTION."""
    found = only(pair[0].probe())
    port = pair[0].client.getsockname()[1]
    assert (found.peer_port, found.address, found.port) == (port, pair[0].address, 2222)
    assert found.live
    assert found.seen.startswith("socket of python")


@BOTH
def test_both_traces_are_one_connection(pair: World) -> None:
    assert only(pair[0].probe(pair[0].claim)).live


@FOUR
def test_a_stale_environment_is_not_taken_for_alive(pair: World) -> None:
    """As in a terminal multiplexer that was started from an older login."""
    found = pair[0].probe("192.0.2.2 1 192.0.2.1 2222").connections
    assert [c.live for c in found] == [True, False]


@FOUR
def test_where_conntrack_is_not_used_the_session_is_not_tracked(pair: World) -> None:
    assert only(pair[0].probe()).tracked is False


@FOUR
def test_what_is_severe_cuts_the_session(pair: World) -> None:
    """tcp_loose is 0 and conntrack came later than the connection."""
    made, run = pair
    assert made.lives()
    run("nft", "-f", "-", stdin=COUNT)
    run("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0")
    assert made.lives()
    session = made.probe()
    assert (session.loose, only(session).tracked) == (False, False)
    assert severity(session) == "severe"
    run("nft", "-f", "-", stdin=nft_text(OLDER))
    assert not made.lives(1.5)


@FOUR
def test_what_is_not_severe_lets_it_live(pair: World) -> None:
    made, run = pair
    assert severity(made.probe()) == "mild"
    run("nft", "-f", "-", stdin=COUNT)
    assert made.lives()
    session = made.probe()
    assert (only(session).tracked, only(session).replied) == (True, True)
    assert severity(session) == "none"
    run("nft", "-f", "-", stdin=nft_text(OLDER))
    assert made.lives()
    assert severity(replace(session, loose=False)) == "none"


@FOUR
def test_a_connection_that_ends_here_survives_two_ways(pair: World, run_in: RunIn) -> None:
    """Answers leave by another link than requests come in by: conntrack sees both all the same."""
    made, run = pair
    away = made.client_ns
    run("ip", "link", "add", "v2", "type", "veth", "peer", "name", "w2", "netns", away)
    run("ip", "link", "set", "v2", "up")
    run("ip", "addr", "add", "198.51.100.1/24", "dev", "v2")
    run_in(away, ["ip", "link", "set", "w2", "up"])
    run_in(away, ["ip", "addr", "add", "198.51.100.2/24", "dev", "w2"])
    for key in ("all", "w1", "w2"):
        run_in(away, ["sysctl", "-qw", f"net.ipv4.conf.{key}.rp_filter=0"])
    run("nft", "-f", "-", stdin=COUNT)
    run("nft", "-f", "-", stdin=nft_text(OLDER))
    run("ip", "route", "add", "192.0.2.2/32", "via", "198.51.100.2", "dev", "v2")
    assert " dev v2 " in run("ip", "route", "get", "192.0.2.2")
    fresh = Pair(made.ns, away, "192.0.2.1")
    try:
        assert fresh.client.getsockname()[0] == "192.0.2.2"
        assert made.lives()
        assert fresh.lives()
    finally:
        fresh.close()
