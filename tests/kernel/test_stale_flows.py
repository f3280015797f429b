"""Stale flows of every shape of NAT, beside healthy twins: what is found, and what is left alone.

One world for each IP version holds all shapes at once, for UDP and TCP: their clients asked an
endpoint that is gone by now, and the rules have a new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked_cli
import pytest
from cli_host import Cli
from stale_shapes import PORTS, SHAPES, TWIN, VIP, asked, load
from tracked import remember
from waiting import eventually

from remedies.facts import gather
from remedies.facts.stale import Stale
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, World
from remedies.model import Host
from remedies.namespaces.netns import inside
from remedies.netlink import conntrack, neighbours
from remedies.netlink.conntrack_entry import IPS_SEEN_REPLY, Entry
from remedies.netlink.flow import Tuple
from remedies.netlink.socket import NETLINK_NETFILTER, NETLINK_ROUTE, Netlink

GONE = {4: "172.17.0.9", 6: "fd17:172::9"}
FIRST = 20_000
"""The clients' first port: each shape has one of its own, and one for its twin."""
KINDS = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}
UNPUBLISHED = "docker"
"""Its rule is deleted: nothing publishes that port any more."""


class Site:
    """A container host with all shapes, and clients outside that ask from one port each."""

    def __init__(self, world: World) -> None:
        self.world, self.at = world, addresses(world)
        self.gone = GONE[world.options.family]
        self._open = contextlib.ExitStack()
        self._stop, self._asking = threading.Event(), list[threading.Thread]()
        self._clients: dict[tuple[str, str, int], socket.socket] = {}
        container_host(world)
        remember(world)
        bits = 32 if world.options.family == 4 else 128
        world.ip("server", f"route add {VIP[world.options.family]}/{bits} via {self.at.uplink}")
        # The twin's endpoint is there and says nothing: one-way traffic, and a SYN that waits.
        world.run(
            "client",
            ["nft", "-f", "-"],
            "table inet silent {\n chain in { type filter hook input priority 0;\n"
            f" tcp dport {min(PORTS.values()) + TWIN}-{max(PORTS.values()) + TWIN} drop\n }}\n"
            "}\n",
        )

    def close(self) -> None:
        self._stop.set()
        for thread in self._asking:
            thread.join()
        self._open.close()

    def keep_asking(self, name: str) -> None:
        """Send a datagram from the client's port every 50 ms, until this site is closed."""

        def send() -> None:
            while not self._stop.wait(0.05):
                self.ask(name, "udp")

        self._asking.append(threading.Thread(target=send))
        self._asking[-1].start()

    def ask(self, name: str, kind: str, twin: int = 0) -> None:
        """Send a datagram, or a SYN, from the client's own port."""
        key = (name, kind, twin)
        if key not in self._clients:
            client = self.world.socket("server", self.at.family, KINDS[kind])
            self._open.callback(client.close)
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind((self.at.server, self.way(*key).source_port))
            self._clients[key] = client
        where = (asked(self.world, name), PORTS[name] + twin)
        if kind == "udp":
            self._clients[key].sendto(b"x", where)
        else:
            self._clients[key].connect_ex(where)

    def way(self, name: str, kind: str, twin: int = 0) -> Tuple:
        """Return the original direction of a flow."""
        port = FIRST + SHAPES.index(name) + twin
        return Tuple(self.at.server, port, asked(self.world, name), PORTS[name] + twin)

    def flow(self, kind: str, way: Tuple) -> Entry | None:
        with inside(self.world.namespace("host")), Netlink(NETLINK_NETFILTER) as client:
            return conntrack.flow_by_tuple(client, kind, way)

    def connects(self, name: str) -> None:
        """Ask again by TCP from the same port, and be heard."""
        with self.world.socket("client", self.at.family, socket.SOCK_STREAM) as listener:
            listener.bind((self.at.client, PORTS[name]))
            listener.listen()
            self._clients.pop((name, "tcp", 0)).close()
            with self.world.socket("server", self.at.family, socket.SOCK_STREAM) as client:
                client.settimeout(5)
                client.bind((self.at.server, self.way(name, "tcp").source_port))
                client.connect((asked(self.world, name), PORTS[name]))

    def target(self, name: str, kind: str) -> str:
        """Return where a shape's flow goes, empty where there is none."""
        entry = self.flow(kind, self.way(name, kind))
        return entry.reply.source if entry else ""

    def silent(self) -> set[str]:
        """Return the neighbours that do not answer."""
        with inside(self.world.namespace("host")), Netlink(NETLINK_ROUTE) as client:
            return {each.address for each in neighbours.neighbours(client, silent=True)}

    def stale(self) -> dict[tuple[str, Tuple], str]:
        """Return what is found, by protocol and tuple: the place of the rule, or why none."""
        host = Host("h", "m", os.uname().release, "n", "b")
        with inside(self.world.namespace("host")):
            facts = gather.read_facts(host, (Stale,))
        fact = facts.get(Stale)
        assert fact.unread == ()
        return {
            (each.flow.protocol, each.flow.original): each.rule.place if each.rule else each.gone
            for each in fact.found
        }


@pytest.fixture(params=[4, 6], ids=["v4", "v6"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with World("stale-flow", Options(family=request.param)) as world:
        made = Site(world)
        try:
            yield made
        finally:
            made.close()


EVERY = [(name, kind) for name in SHAPES for kind in KINDS]


Flow = tuple[str, Tuple]


def stale_everywhere(site: Site) -> dict[Flow, int]:
    """Make each shape's clients ask, then move the endpoint; return the twins' flows with ids."""
    load(site.world, dict.fromkeys(SHAPES, site.gone), site.at.client)
    for name, kind in EVERY:
        site.ask(name, kind)
        site.ask(name, kind, TWIN)
    every = {(kind, site.way(name, kind, twin)) for name, kind in EVERY for twin in (0, TWIN)}
    eventually(lambda: all(site.flow(*each) for each in every))
    assert site.stale() == {}, "the rules still give the endpoint that is gone"
    load(site.world, {n: site.at.client for n in SHAPES if n != UNPUBLISHED}, site.at.client)
    for name, kind in EVERY:
        if kind == "udp":
            site.ask(name, kind)
    site.keep_asking(UNPUBLISHED)  # the kernel forgets a neighbour that failed
    found = site.stale()
    assert set(found) == {(kind, site.way(name, kind)) for name, kind in EVERY}
    for kind in KINDS:
        assert "no neighbour answers" in found[kind, site.way(UNPUBLISHED, kind)]
    return {each: number(site, each) for each in every if each not in found}


def number(site: Site, flow: Flow) -> int:
    entry = site.flow(*flow)
    return entry.number if entry else 0


def test_what_works_is_never_named(site: Site) -> None:
    """Answered flows to an endpoint that drains, and flows of another zone."""
    world, at = site.world, site.at
    name = "docker"
    world.run("client", ["nft", "flush ruleset"])
    load(world, dict.fromkeys(SHAPES, at.client), at.client)
    listener = world.socket("client", at.family, socket.SOCK_STREAM)
    answers = world.socket("client", at.family, socket.SOCK_DGRAM)
    with listener, answers:
        for end in (listener, answers):
            end.bind((at.client, PORTS[name]))
            end.settimeout(5)
        listener.listen()
        for kind in KINDS:
            site.ask(name, kind)
        listener.accept()[0].close()
        _, sender = answers.recvfrom(10)
        answers.sendto(b"y", sender)
        every = [(kind, site.way(name, kind)) for kind in KINDS]
        eventually(lambda: all(entry is not None and entry.status & IPS_SEEN_REPLY
                          for entry in (site.flow(*each) for each in every)))  # fmt: skip
        ip = "ip" if world.options.family == 4 else "ip6"
        world.run(
            "host",
            ["nft", "-f", "-"],
            f"table {ip} zoned {{\n chain pre {{ type filter hook prerouting priority -300;\n"
            f" udp dport {PORTS['netavark']} ct zone set 7\n }}\n}}\n",
        )
        site.ask("netavark", "udp")
        load(world, dict.fromkeys(SHAPES, site.gone), at.client)
        assert site.stale() == {}
        assert [site.flow(*each) is not None for each in every] == [True, True]


def test_an_answered_flow_is_named_once_its_target_is_gone(site: Site) -> None:
    world, at, name = site.world, site.at, "portmap"
    load(world, dict.fromkeys(SHAPES, at.client), at.client)
    with world.socket("client", at.family, socket.SOCK_DGRAM) as answers:
        answers.bind((at.client, PORTS[name]))
        answers.settimeout(5)
        site.ask(name, "udp")
        _, sender = answers.recvfrom(10)
        answers.sendto(b"y", sender)
    way = site.way(name, "udp")
    eventually(lambda: bool((entry := site.flow("udp", way)) and entry.status & IPS_SEEN_REPLY))
    load(world, dict.fromkeys(SHAPES, site.gone), at.client)
    assert site.stale() == {}, "it drains"
    world.ip("client", f"addr del {at.client}/{at.inner} dev eth0")
    world.ip("host", f"neigh flush to {at.client}")
    site.keep_asking(name)
    eventually(lambda: at.client in site.silent())
    assert set(site.stale()) == {("udp", way)}


def remedy(site: Site, *words: str, code: int = 0) -> Any:
    """Run the command line on the site's host and return its JSON."""
    done = forked_cli.run(*site.world.remedy, *words, "--json")
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout)


POLICY = """\
apiVersion: remedy/v1
name: flush
extends: observe-only
rules:
  stale-flow: {mode: fix, from: proven, fixes: [flush-stale-flow]}
"""


ONCE = pytest.mark.parametrize("site", [4], indirect=True)
"""For what both IP versions have in common."""
KILLED = """\
def point(name):
    if name.startswith("after write flow:"):
        os.kill(writer, signal.SIGKILL)"""


@pytest.fixture
def policy(tmp_path: Path) -> tuple[str, ...]:
    """Give the options by which stale flows alone are ended."""
    path = tmp_path / "flush.yaml"
    path.write_text(POLICY)
    path.chmod(0o600)
    return ("--policy", str(path), "--window", "0")


def test_every_shape_is_cured_and_its_twin_is_not_touched(
    site: Site, policy: tuple[str, ...]
) -> None:
    twins = stale_everywhere(site)
    began = time.monotonic()
    ended = remedy(site, "apply", *policy, "--yes")
    print(f"{len(EVERY)} flows ended in {time.monotonic() - began:.2f} s")
    assert ended["outcome"] == "applied", ended
    assert {item["after"] for item in ended["verified"]} == {"absent"}
    assert {each: number(site, each) for each in twins} == twins
    assert site.gone not in {site.target(name, kind) for name, kind in EVERY}
    wanted = [name for name in SHAPES if name != UNPUBLISHED]
    for name in wanted:
        site.ask(name, "udp")
        site.connects(name)
    eventually(lambda: all(site.target(name, "udp") == site.at.client for name in wanted))
    again = remedy(site, "apply", *policy, "--yes")
    assert (again["outcome"], again["changes"]) == ("nothing", [])


@ONCE
def test_a_writer_killed_between_two_flows_leaves_nothing_to_undo(
    site: Site, policy: tuple[str, ...], tmp_path: Path
) -> None:
    stale_everywhere(site)
    cli = Cli(site.world, tmp_path)
    killed = cli("apply", *policy, "--yes", point=KILLED)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(site.stale()) == len(EVERY) - 1
    done = cli("apply", *policy, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert site.stale() == {}
    status = json.loads(cli("status", "--json").stdout)
    assert (status["in_force"], status["unfinished"]) == ([], [])
    undone = cli("rollback", "--every", "--yes", "--json")
    assert json.loads(undone.stdout)["outcome"] == "nothing"


@ONCE
def test_a_saved_plan_whose_flow_ended_by_itself_is_stale(
    site: Site, policy: tuple[str, ...], tmp_path: Path
) -> None:
    stale_everywhere(site)
    saved = tmp_path / "plan.json"
    saved.write_text(json.dumps(remedy(site, "plan", *policy)))
    saved.chmod(0o600)
    way = site.way("portmap", "udp")
    with inside(site.world.namespace("host")), Netlink(NETLINK_NETFILTER) as client:
        assert conntrack.delete(client, "udp", way)
    site.ask("portmap", "udp")
    eventually(lambda: site.target("portmap", "udp") == site.at.client)
    anew = number(site, ("udp", way))
    refused = remedy(site, "apply", str(saved), *policy[2:], "--yes", code=5)
    assert refused["outcome"] == "stale"
    assert number(site, ("udp", way)) == anew
    assert len(site.stale()) == len(EVERY) - 1


@ONCE
def test_no_established_connection_is_ended(site: Site, policy: tuple[str, ...]) -> None:
    """A thousand of TCP, and as many answered ones of UDP, to an endpoint that is only drained."""
    world, at, port = site.world, site.at, PORTS["docker"]
    load(world, dict.fromkeys(SHAPES, at.client), at.client)
    tuples = [
        f"-s {at.server} -d {at.uplink} --dport {port} -r {at.client} -q {at.server} "
        f"--reply-port-src {port} --sport {number} --reply-port-dst {number} -t 600"
        for number in range(30_000, 31_000)
    ]
    lines = [f"-I -p tcp {ends} --state ESTABLISHED -u SEEN_REPLY,ASSURED" for ends in tuples]
    lines += [f"-I -p udp {ends} -u SEEN_REPLY" for ends in tuples]
    world.run("host", ["conntrack", "-R", "-"], "\n".join([*lines, ""]))
    site.ask("docker", "udp")
    eventually(lambda: bool(site.target("docker", "udp")))
    load(world, dict.fromkeys(SHAPES, site.gone), at.client)
    ended = remedy(site, "apply", *policy, "--yes")
    assert len(ended["changes"]) == 1
    left = world.run("host", ["conntrack", "-L"]).splitlines()
    assert len([line for line in left if line.startswith(("tcp", "udp"))]) == 2000
