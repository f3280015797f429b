"""The site of the harm matrix: a host with two containers, a neighbour and a machine further out.

::

    d eth0 172.17.0.3 ---+
    c eth0 172.17.0.2 --- docker0 172.17.0.1 | h | eth0 10.21.17.99 ---+
    |                                        |   | up2 10.98.0.2 --+   x br0 10.21.17.20
    |                                         down2 10.98.0.1 | v |    |
    +-- eth1 10.99.0.2 ------- side 10.99.0.1                 | v | eth0 10.21.17.1
                                                lo 198.51.100.9

IPv4 and IPv6 stand side by side. A world is rules, routes and sysctls that are laid over it and
taken away again, so that one site serves all of them.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import flow_table
from run_in import run_command

from remedies.namespaces.netns import inside

PATIENCE = 1.2
"""Seconds without progress after which a connection hangs."""


@dataclass(frozen=True)
class Addresses:
    """The addresses of one family."""

    family: socket.AddressFamily
    container: str
    bridge: str
    host: str
    neighbour: str
    outside: str
    far: str
    """Of the machine outside, on its loopback: only routes lead there."""
    side_container: str
    side_outside: str
    sibling: str
    """Of the second container."""
    second: str
    """Of the host, on its second uplink."""
    beyond: str
    """Of the machine outside, at the other end of that."""
    virtual: str
    """A service's address: no link's, until a world gives it to somebody."""
    subnet: str
    any: str
    loopback: str


AT = {
    4: Addresses(
        socket.AF_INET, "172.17.0.2", "172.17.0.1", "10.21.17.99", "10.21.17.20", "10.21.17.1",
        "198.51.100.9", "10.99.0.2", "10.99.0.1", "172.17.0.3", "10.98.0.2", "10.98.0.1",
        "203.0.113.7", "172.17.0.0/16", "0.0.0.0", "127.0.0.1",
    ),
    6: Addresses(
        socket.AF_INET6, "fd17::2", "fd17::1", "fd21::99", "fd21::20", "fd21::1",
        "2001:db8:9::9", "fd99::2", "fd99::1", "fd17::3", "fd98::2", "fd98::1",
        "2001:db8:7::7", "fd17::/64", "::", "::1",
    ),
}  # fmt: skip
_LINKS = """
h: link add docker0 type bridge
h: link add v1 type veth peer name eth0 netns {c}
h: link add v2 type veth peer name eth0 netns {d}
h: link add up2 type veth peer name down2 netns {v}
h: link add eth0 type veth peer name p1 netns {x}
v: link add eth0 type veth peer name p2 netns {x}
v: link add side type veth peer name eth1 netns {c}
x: link add br0 type bridge
h: link set v1 master docker0
h: link set v2 master docker0
x: link set p1 master br0
x: link set p2 master br0
"""
_CARRIERS = (("c", "eth0", "container"), ("h", "docker0", "bridge"), ("h", "eth0", "host"),
             ("x", "br0", "neighbour"), ("v", "eth0", "outside"), ("v", "lo", "far"),
             ("c", "eth1", "side_container"), ("v", "side", "side_outside"),
             ("d", "eth0", "sibling"), ("h", "up2", "second"),
             ("v", "down2", "beyond"))  # fmt: skip
_LENGTHS = {"container": (16, 64), "bridge": (16, 64), "sibling": (16, 64), "far": (32, 128)}
_QUIET = ("rp_filter", "send_redirects", "accept_redirects")


@dataclass(frozen=True)
class World:
    """What is laid over the site."""

    name: str
    rules: str = ""
    """nft syntax, for the host."""
    routes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Role to arguments of ``ip route add`` (of either family)."""
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Role to addresses that are added to its loopback."""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    """Keys of the host, put back to what they were."""
    mtus: Mapping[str, int] = field(default_factory=dict)
    """Of the host's links, put back to 1500."""
    probes: tuple[tuple[str, Callable[[Site, int], str]], ...] = ()
    """Name and traffic; one that is named ``fault`` shall fail without a fix: the connection is
    reset, or hangs where another word stands before."""
    of: str = ""
    """The one fix whose forms it is there for; empty: all are looked at."""
    served: bool = False
    """It is about services of the host: what udp-redirect and notrack deal with."""
    slow: bool = False
    """Its connections begin with a second of silence."""
    tcp: bool = True
    """It is about TCP: what the answers to tcp-invalid-reset deal with."""


class Site:
    """The five namespaces, wired."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """Take the namespace of each role."""
        self.names = names
        self.acts: Callable[[], None] = lambda: None
        """What a fix does that acts once, in the midst of each connection."""
        self._running = threading.Lock()

    def wire(self) -> None:
        """Make links, addresses and routes."""
        self._ip(_LINKS.format(**self.names))
        for role, ns in self.names.items():
            run_command(ns, ["sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0"])
            keys = [f"net.ipv4.conf.{w}.{key}=0" for w in ("all", "default") for key in _QUIET]
            keys += [f"net.ipv6.conf.{w}.accept_redirects=0" for w in ("all", "default")]
            for link in self._links(role):
                keys += [f"net.ipv4.conf.{link}.{key}=0" for key in _QUIET]
                keys += [f"net.ipv6.conf.{link}.{k}=0" for k in ("accept_dad", "accept_redirects")]
            run_command(ns, ["sysctl", "-qw", *keys])
        lines = [f"{role}: link set {link} up" for role in "cdhxv" for link in self._links(role)]
        for role, link, name in _CARRIERS:
            for version, at in AT.items():
                length = _LENGTHS.get(name, (24, 64))[version == 6]
                flag = "nodad" if version == 6 else ""
                lines.append(f"{role}: addr add {getattr(at, name)}/{length} dev {link} {flag}")
        for at in AT.values():
            lines += [f"c: route add default via {at.bridge}",
                      f"d: route add default via {at.bridge}",
                      f"h: route add default via {at.outside}"]  # fmt: skip
        self._ip("\n".join(lines))
        self.run("h", ["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        for tool in ("iptables-legacy", "ip6tables-legacy"):  # it stays, so it comes first in all
            self.run("h", [tool, "-w", "-t", "nat", "-S"])

    def _links(self, role: str) -> list[str]:
        shown = run_command(self.names[role], ["ip", "-br", "link"]).stdout
        return [line.split()[0].split("@")[0] for line in shown.splitlines()]

    def _ip(self, lines: str) -> None:
        """Run lines ``role: command`` of iproute2, in order, one process a role and run."""
        for line in lines.strip().splitlines():
            role, _, words = line.partition(": ")
            self.run(role, ["ip", *words.split()])

    def run(self, role: str, argv: Sequence[str], stdin: str | None = None) -> str:
        """Run a program in a namespace."""
        with self.running():
            return run_command(self.names[role], argv, stdin=stdin).stdout

    def inside(self, role: str) -> contextlib.AbstractContextManager[None]:
        """Enter a namespace for the length of a ``with`` block."""
        return inside(self.names[role])

    def socket(self, role: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Open a socket that belongs to a namespace; the caller closes it."""
        with self.inside(role):
            return socket.socket(family, kind, protocol)

    @contextlib.contextmanager
    def laid(self, world: World) -> Iterator[None]:
        """Lay a world over the site, and take it away again."""
        before = {}
        for key, value in world.sysctls.items():
            before[key] = self.run("h", ["sysctl", "-n", key]).strip()
            self.run("h", ["sysctl", "-qw", f"{key}={value}"])
        self._size(world.mtus)
        self._address(world, "add")
        self._route(world, "add")
        self.run("h", ["nft", "-f", "-"], stdin=world.rules)
        try:
            yield
        finally:
            self.run("h", ["nft", "flush", "ruleset"])
            self._route(world, "del")
            self._address(world, "del")
            self._size(dict.fromkeys(world.mtus, 1500))
            for key, value in before.items():
                self.run("h", ["sysctl", "-qw", f"{key}={value}"])
            for version in AT:
                self.forget(version)

    def _size(self, mtus: Mapping[str, int]) -> None:
        for link, mtu in mtus.items():
            self.run("h", ["ip", "link", "set", link, "mtu", str(mtu)])

    def _address(self, world: World, verb: str) -> None:
        for role, addresses in world.addresses.items():
            for address in addresses:
                self.run(role, ["ip", "address", verb, address, "dev", "lo"])

    def _route(self, world: World, verb: str) -> None:
        for role, routes in world.routes.items():
            for route in routes:
                self.run(role, ["ip", "route", verb, *route.split()])

    def forget(self, version: int) -> None:
        """Empty the host's flow table of one IP version: the other one's is another probe's."""
        with self.running(), self.inside("h"):  # and no child has the last probe's sockets by then
            flow_table.forget(AT[version].family)

    def halfway(self, version: int) -> None:
        """Let a fix act that acts once; the other IP version's probe may be anywhere.

        It may start children: to read rules as nft prints them.
        """
        with self.running(), self.inside("h"):
            self.acts()

    def running(self) -> contextlib.AbstractContextManager[object]:
        """Return what is held while a child may have copies of another thread's sockets."""
        return self._running
