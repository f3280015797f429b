"""A container, its host with a virtual IP, a machine outside: UDP asked and answered between them.

``site`` gives one exchange in a world that the module's tests share; ``judging`` has scan and trace
judge it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from remedies.conditions import udp_connected_server, udp_reply_source
from remedies.facts.gather import read_facts
from remedies.facts.host import read_host
from remedies.lab.topology import Addresses, addresses, container_host
from remedies.lab.world import Options, World
from remedies.model import Finding
from remedies.namespaces.netns import inside
from remedies.trace.event import Event
from remedies.trace.session import TraceSession
from remedies.trace.stop_signal import Ending

CONDITION = "udp-reply-source"
PORT = 7777
VIRTUAL = {4: "10.21.17.50", 6: "fd10:21:17::50"}
SERVICE = {4: "10.96.0.53", 6: "fd96::53"}
PKTINFO = {4: (socket.IPPROTO_IP, 8), 6: (socket.IPPROTO_IPV6, 49)}


@dataclass
class Site:
    """A world, and the sockets of one exchange."""

    world: World
    at: Addresses
    virtual: str
    service: str
    open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def v6(self) -> bool:
        return self.at.family == socket.AF_INET6

    def udp(self, role: str, address: str = "", port: int = 0) -> socket.socket:
        """Open a UDP socket in a namespace, closed when the exchange ends."""
        made = self.open.enter_context(self.world.socket(role, self.at.family, socket.SOCK_DGRAM))
        made.settimeout(10.0)
        if role == "host":
            made.bind((address, port))
        return made

    def ask(self, server: socket.socket, role: str, address: str, port: int = PORT) -> Asker:
        """Let a new client send one datagram; return it, and where the server saw it from."""
        client = self.udp(role)
        client.connect((address, port))
        client.send(b"question")
        _, peer = server.recvfrom(100)
        return Asker(client, peer)

    def nat(self, rule: str) -> None:
        name = "ip6" if self.v6 else "ip"
        text = (
            f"table {name} kube {{\n chain pre {{\n  type nat hook prerouting priority dstnat\n"
            f"  {name} daddr {self.service} {rule}\n }}\n}}\n"
        )
        self.world.run("host", ["nft", "-f", "-"], text)


@dataclass
class Asker:
    """A client that has asked, and the address that answers go to."""

    socket: socket.socket
    peer: Any

    def answered(self, within: float = 0.2) -> bool:
        """Tell whether an answer reached the client; one that has to come is given time."""
        if not select.select([self.socket], [], [], within)[0]:
            return False
        with contextlib.suppress(ConnectionRefusedError):
            return bool(self.socket.recv(100))
        return False


@dataclass
class Judged:
    """What scan and trace said about one exchange."""

    session: TraceSession
    site: Site
    findings: tuple[Finding, ...] = ()
    events: list[Event] = field(default_factory=list)

    @property
    def proven(self) -> Finding | None:
        return next((f for f in self.findings if f.verdict == "proven"), None)

    def hear(self) -> None:
        """Let the trace judge what it has heard by now."""
        with inside(self.site.world.namespace("host")), Ending() as ending:
            events = self.session.events(0.0, ending)
            self.events += [event for event in events if isinstance(event, Event)]

    @property
    def verdicts(self) -> list[str]:
        return [f.verdict for f in self.findings if f.subject.endswith(f":{PORT}")]


def scan(world: World, window: float = 0.0, role: str = "host") -> tuple[Finding, ...]:
    needs = (*udp_reply_source.NEEDS, *udp_connected_server.NEEDS)
    with inside(world.namespace(role)):
        facts = read_facts(read_host(), needs, window=window)
    found = udp_reply_source.detect(facts, udp_reply_source.PARAMS)
    return found + udp_connected_server.detect(facts, {})


@contextlib.contextmanager
def judging(site: Site, *, flush: bool = True, packets: bool = False) -> Iterator[Judged]:
    """Judge what happens in the block by both, with a flow table that begins empty.

    ``packets``: the trace may prove from packets alone what scan can only call exposed.
    """
    if flush:
        site.world.run("host", ["conntrack", "-F"])
    with inside(site.world.namespace("host")):
        session = TraceSession().__enter__()
    seen = Judged(session, site)
    try:
        yield seen
        seen.findings = scan(site.world)
        seen.hear()
    finally:
        session.__exit__()
        site.open.close()
        with contextlib.suppress(Exception):
            site.world.run("host", ["nft", "delete table", "ip6" if site.v6 else "ip", "kube"])
    told = {event.meaning.condition for event in seen.events} - {None}
    proven = {found.condition for found in seen.findings if found.verdict == "proven"}
    assert packets or told == proven, (seen.findings, seen.events)


@pytest.fixture(scope="module", params=[4, 6], ids=["v4", "v6"])
def standing(request: pytest.FixtureRequest) -> Iterator[World]:
    with World("udp-answers", Options(family=request.param)) as world:
        container_host(world)
        # Each refusal counts: by default a host sends six at once to one peer, then one a second.
        for role in ("server", "client", "host"):
            for key in ("net.ipv4.icmp_ratelimit", "net.ipv6.icmp.ratelimit"):
                world.sysctl(role, key, "0")
        at = addresses(world)
        flag = "nodad" if request.param == 6 else ""
        world.ip("host", f"addr add {VIRTUAL[request.param]}/{at.outer} dev eth0 {flag}")
        # IPv6 answers from the address that was added last; which one that is, the tests ask.
        world.run("host", ["nft", "-f", "-"], "table inet track {\n chain c {\n  type filter hook "
                  "prerouting priority 0\n  ct state new\n }\n}\n")  # fmt: skip
        yield world


@pytest.fixture
def site(standing: World) -> Site:
    family = standing.options.family
    at = addresses(standing)
    with standing.socket("host", at.family, socket.SOCK_DGRAM) as probe:
        probe.connect((at.server, 9))
        source = probe.getsockname()[0]
    pair = [at.uplink, VIRTUAL[family]]
    pair.remove(source)
    return Site(standing, at, pair[0], SERVICE[family])


Answer = Callable[[Site, socket.socket, Asker], object]


def plainly(site: Site, server: socket.socket, asker: Asker) -> None:
    server.sendto(b"answer", asker.peer)


def by_new_socket(site: Site, server: socket.socket, asker: Asker, role: str = "host") -> None:
    data = site.udp(role)
    data.connect(asker.peer)
    data.send(b"answer")


def from_asked(site: Site, server: socket.socket, asker: Asker) -> None:
    """Answer with the source that was asked, as IP_PKTINFO is for."""
    if site.v6:
        info = struct.pack("=16sI", socket.inet_pton(site.at.family, site.virtual), 0)
        kind = 50  # IPV6_PKTINFO
    else:
        info = struct.pack("=I4s4s", 0, socket.inet_aton(site.virtual), bytes(4))
        kind = 8
    server.sendmsg([b"answer"], [(PKTINFO[6 if site.v6 else 4][0], kind, info)], 0, asker.peer)
