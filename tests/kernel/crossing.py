"""Connections through a host, and what one real segment outside the window does to each.

::

    container 172.17.0.2 ---- docker0  host  eth0 10.21.17.99 ---- 10.21.17.1 outside
              fd17::2         (inner)             fd21::99         fd21::1

The machine outside has its default route by the host: what comes with a container's own address it
answers to that address.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from run_in import run_command

from remedies.lab.segment import FIN, RST, SYN, Position, forge
from remedies.namespaces.netns import inside

FAR_OFF = 100_000_000
"""How far above the window the segment lies (bytes)."""
PATIENCE = 1.0
"""Seconds for an answer; each way is three hops in one machine."""


@dataclass(frozen=True)
class Ends:
    """The addresses of one IP version."""

    family: socket.AddressFamily
    container: str
    inner: str
    host: str
    outside: str
    lengths: tuple[int, int]


AT = {
    4: Ends(socket.AF_INET, "172.17.0.2", "172.17.0.1", "10.21.17.99", "10.21.17.1", (16, 24)),
    6: Ends(socket.AF_INET6, "fd17::2", "fd17::1", "fd21::99", "fd21::1", (64, 64)),
}
_MAC = {role: f"02:00:00:00:00:0{n}" for n, role in enumerate(("container", "host", "outside"), 1)}


LINKS = {"container": "docker0", "outside": "eth0"}
"""The host's link to each of the others."""


@dataclass(frozen=True)
class Leg:
    """Who listens where, who asks whom (roles, addresses and ports), and who may lose its place."""

    listens: str
    at: tuple[str, int]
    asks: str
    to: tuple[str, int]
    servers: bool = True
    """The server's segments go astray, too."""
    clients: bool = True


def leaving(version: int) -> Leg:
    """Return the leg of a container's client to a server outside, which sends the segment.

    A container's own goes on with the container's address, which no network outside answers to.
    """
    to = (AT[version].outside, 443)
    return Leg("outside", to, "container", to, clients=False)


def entering(version: int, to: tuple[str, int]) -> Leg:
    """Return the leg of a client outside that asks ``to``, which leads to a container's server."""
    return Leg("container", (AT[version].container, 80), "outside", to)


def taken(version: int, to: tuple[str, int]) -> Leg:
    """Return the leg of a client outside that asks ``to``, which the host's own proxy serves."""
    return Leg("host", (AT[version].host, 15006), "outside", to, servers=False)


@dataclass
class Crossing:
    """The namespace of each role, and the host's link to each of the others."""

    names: dict[str, str]
    links: dict[str, str]

    @classmethod
    def wired(cls, make: Callable[..., str]) -> Crossing:
        """Make the namespaces, links, addresses and routes."""
        roles = ("container", "host", "outside")
        made = cls({role: make(f"x{role[0]}") for role in roles}, dict(LINKS))
        for role, ns in made.names.items():
            keys = ["net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"]
            if role == "host":
                keys += ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
                         "net.ipv6.conf.all.keep_addr_on_down=1"]  # fmt: skip
            run_command(ns, ["sysctl", "-qw", *keys])
        for role, link in made.links.items():
            inner = role == "container"
            far = f"peer name eth0 netns {made.names[role]} address {_MAC[role]}"
            made.ip("host", f"link add {link} address {_MAC['host']} type veth {far}")
            for ends in AT.values():
                ours, theirs = (ends.inner, ends.container) if inner else (ends.host, ends.outside)
                length = ends.lengths[not inner]
                flag = "nodad" if ends.family == socket.AF_INET6 else ""
                made.ip("host", f"addr add {ours}/{length} dev {link} {flag}")
                made.ip(role, f"addr add {theirs}/{length} dev eth0 {flag}")
            made.ip("host", f"link set {link} up")
            made.ip(role, "link set eth0 up")
            for ends in AT.values():
                made.ip(role, f"route add default via {ends.inner if inner else ends.host}")
            made._meet(role)
        return made

    def _meet(self, role: str) -> None:
        """Let the host and its neighbour know each other, whatever rules do to their asking."""
        link = self.links[role]
        for ends in AT.values():
            here, there = (
                (ends.inner, ends.container) if role == "container" else (ends.host, ends.outside)
            )
            self.ip("host", f"neigh replace {there} lladdr {_MAC[role]} dev {link}")
            self.ip(role, f"neigh replace {here} lladdr {_MAC['host']} dev eth0")

    def run(self, role: str, argv: list[str], stdin: str | None = None) -> str:
        """Run a program in a namespace and return what it prints."""
        return run_command(self.names[role], argv, stdin=stdin).stdout

    def ip(self, role: str, words: str) -> None:
        """Run ``ip`` in a namespace."""
        self.run(role, ["ip", *words.split()])

    def call(self, role: str, name: str) -> None:
        """Give the host's link to a role another name."""
        link = self.links[role]
        if name != link:
            for words in (f"{link} down", f"{link} name {name}", f"{name} up"):
                self.ip("host", f"link set {words}")
            self.links[role] = name
            self._meet(role)

    def socket(self, role: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Return a socket of a namespace; the caller closes it."""
        with inside(self.names[role]):
            made = socket.socket(family, kind, protocol)
        made.settimeout(PATIENCE)
        return made

    @contextlib.contextmanager
    def connected(self, leg: Leg) -> Iterator[Connected]:
        """Give an open connection that has carried data; raises OSError where there is none."""
        family = socket.AF_INET6 if ":" in leg.to[0] else socket.AF_INET
        with contextlib.ExitStack() as stack:

            def opened(role: str, kind: int, protocol: int = 0) -> socket.socket:
                return stack.enter_context(self.socket(role, family, kind, protocol))

            ears = [opened(role, socket.SOCK_RAW, socket.IPPROTO_TCP)
                    for role in (leg.asks, leg.listens)]  # fmt: skip
            listener, client = (opened(r, socket.SOCK_STREAM) for r in (leg.listens, leg.asks))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(leg.at)
            listener.listen()
            client.connect(leg.to)
            server = stack.enter_context(listener.accept()[0])
            server.settimeout(PATIENCE)
            made = Connected((client, ears[0]), (server, ears[1]))
            made.exchange()
            yield made

    def answered(self, leg: Leg, seen_as: str = "", by: str = "", *, patience: float) -> bool:
        """Tell whether a datagram arrives, from an address if one is given, and its answer, too.

        ``by``: the sender's own address, where it has several. ``patience``: seconds for each way;
        one that has to arrive is given time.
        """
        family = socket.AF_INET6 if ":" in leg.to[0] else socket.AF_INET
        with (
            self.socket(leg.listens, family, socket.SOCK_DGRAM) as server,
            self.socket(leg.asks, family, socket.SOCK_DGRAM) as client,
        ):
            server.bind(leg.at)
            server.settimeout(patience)
            client.settimeout(patience)
            client.bind((by, 0))
            client.connect(leg.to)
            try:
                client.send(b"question")
                _, peer = server.recvfrom(10)
                server.sendto(b"answer", peer)
                return client.recv(10) == b"answer" and seen_as in ("", peer[0])
            except OSError:
                return False

    def survives(self, leg: Leg) -> bool:
        """Tell whether connections outlive a segment of either end that is far off the window.

        Raises OSError where there is no connection to begin with.
        """
        for of_server in [True] * leg.servers + [False] * leg.clients:
            with self.connected(leg) as connection:
                connection.stray(of_server)
                try:
                    connection.exchange()
                    connection.exchange()
                except OSError:
                    return False
                if connection.was_reset(of_server):
                    return False
        return True


@dataclass
class Connected:
    """An open TCP connection: each end's socket, and one that hears the end's segments."""

    client: tuple[socket.socket, socket.socket]
    server: tuple[socket.socket, socket.socket]

    def exchange(self) -> None:
        """Send data there and back. Raises OSError."""
        for one, other in ((self.client[0], self.server[0]), (self.server[0], self.client[0])):
            one.sendall(b"x")
            if not other.recv(1):
                raise ConnectionError("closed by the other end")

    def seen_from(self) -> str:
        """Return the address that the server sees the client at."""
        return str(self.server[0].getpeername()[0])

    def stray(self, of_server: bool) -> None:
        """Send a segment of one end whose sequence number is far above the window."""
        end, ear = self.server if of_server else self.client
        own, peer = end.getsockname()[:2], end.getpeername()[:2]
        stands = Position(0, 0)
        while select.select([ear], [], [], 0)[0]:
            packet = ear.recv(2000)
            stands = _after(packet, end.family, peer[1], own[1]) or stands
        assert stands != Position(0, 0)
        away = Position(stands.sequence + FAR_OFF, stands.acknowledge)
        ear.sendto(forge(own, peer, away, b"stray"), (peer[0], 0))

    def was_reset(self, of_server: bool) -> bool:
        """Tell whether a reset has come to the end that a stray was of.

        On a busy machine what is sent after the stray may overtake the reset, which ends nothing
        then.
        """
        end, ear = self.server if of_server else self.client
        ports = end.getpeername()[1], end.getsockname()[1]
        while select.select([ear], [], [], 0)[0]:
            if _resets(ear.recv(2000), end.family, *ports):
                return True
        return False


def _body(packet: bytes, family: int) -> bytes:
    """Return the segment of what a raw socket hears: IPv4's header comes with it."""
    return packet if family == socket.AF_INET6 else packet[4 * (packet[0] & 15) :]


def _resets(packet: bytes, family: int, source: int, destination: int) -> bool:
    """Tell whether a segment is a reset between these ports."""
    ports, flags = struct.unpack_from(">I9xB", _body(packet, family))
    return ports == source << 16 | destination and bool(flags & RST)


def _after(packet: bytes, family: int, source: int, destination: int) -> Position | None:
    """Return where the receiver of a segment between these ports stands; None for another one."""
    body = _body(packet, family)
    ports, sequence, acknowledged, offset, flags = struct.unpack_from(">IIIBB", body)
    if ports != source << 16 | destination:
        return None
    taken = len(body) - 4 * (offset >> 4) + bool(flags & (SYN | FIN))
    return Position(acknowledged, sequence + taken)
