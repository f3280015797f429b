"""Stale flows of every shape of NAT, beside healthy twins: what is found, and what is left alone.

One world for each IP version holds all shapes at once, for UDP and TCP: their clients asked an
endpoint that is gone by now, and the rules have a new one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from stale_shapes import PORTS, SHAPES, TWIN, VIP, asked, load

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
        self._clients: dict[tuple[str, str, int], socket.socket] = {}
        container_host(world)
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
        self._open.close()

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

    def silent(self) -> set[str]:
        """Return the neighbours that do not answer."""
        with inside(self.world.namespace("host")), Netlink(NETLINK_ROUTE) as client:
            return {each.address for each in neighbours.silent(client)}

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


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(params=[4, 6], ids=["v4", "v6"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with World("stale-flow", Options(family=request.param)) as world:
        made = Site(world)
        try:
            yield made
        finally:
            made.close()


EVERY = [(name, kind) for name in SHAPES for kind in KINDS]


def test_every_shape_is_found_and_its_twin_is_not(site: Site) -> None:
    load(site.world, dict.fromkeys(SHAPES, site.gone), site.at.client)
    for name, kind in EVERY:
        site.ask(name, kind)
        site.ask(name, kind, TWIN)
    every = {(kind, site.way(name, kind, twin)) for name, kind in EVERY for twin in (0, TWIN)}
    until(lambda: all(site.flow(*each) for each in every))
    assert site.stale() == {}, "the rules still give the endpoint that is gone"
    targets = dict.fromkeys(SHAPES, site.at.client)
    del targets[UNPUBLISHED]
    load(site.world, targets, site.at.client)
    for name, kind in EVERY:
        if kind == "udp":
            site.ask(name, kind)
    found = site.stale()
    assert set(found) == {(kind, site.way(name, kind)) for name, kind in EVERY}
    for kind in KINDS:
        assert "no neighbour answers" in found[kind, site.way(UNPUBLISHED, kind)]


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
        until(lambda: all(entry is not None and entry.status & IPS_SEEN_REPLY
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
    until(lambda: bool((entry := site.flow("udp", way)) and entry.status & IPS_SEEN_REPLY))
    load(world, dict.fromkeys(SHAPES, site.gone), at.client)
    assert site.stale() == {}, "it drains"
    world.ip("client", f"addr del {at.client}/{at.inner} dev eth0")
    world.ip("host", f"neigh flush to {at.client}")
    site.ask(name, "udp")
    until(lambda: at.client in site.silent())
    assert set(site.stale()) == {("udp", way)}
