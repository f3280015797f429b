"""A host between a server and a container, where stray segments tell what a ruleset does with them.

With ``nf_conntrack_tcp_loose = 0`` an acknowledgment of no known connection is INVALID, as a
segment outside the window is, and no rule can tell the two apart: neither has a conntrack entry. A
reset that comes back is the fault.

Nothing waits for what does not come: behind the segments go ARP probes, which no rule of these
tests sees, and on one processor a veth's queue is worked off in order. A reset comes back by four
queues, each answered probe has passed two.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from rules_of_others import facts_of
from run_in import run_command

from remedies.conditions import tcp_invalid_reset
from remedies.errors import Unreadable
from remedies.facts import Facts, name_of
from remedies.facts.counters import Counters
from remedies.facts.sysctl import Sysctl
from remedies.facts.tap import Tap
from remedies.lab.segment import RST, Endpoint, Position, checksum, forge, parse
from remedies.model import Host
from remedies.namespaces import netns as namespaces

_ACK = 0x10
_ETH_P_ALL, _IPV4, _ARP, _IPV6 = 0x0003, 0x0800, 0x0806, 0x86DD
_OUTGOING = 4
_PROBES = 4
GROUPS = {"eth0": 7, "docker0": 0}
HOST = {"eth0": ("10.21.17.99", "fd21::99"), "docker0": ("172.17.0.1", "fd17::1")}
SERVER, CONTAINER = ("10.21.17.1", "fd21::1"), ("172.17.0.2", "fd17::2")
FAR = ("192.0.2.77", "fd92::77")
"""Further addresses of the server."""


class Stray(NamedTuple):
    """An acknowledgment of no known connection."""

    source: Endpoint
    destination: Endpoint
    hops: int = 64
    """TTL, or the hop limit."""
    service: int = 0
    """DSCP and ECN: the octet that was the type of service."""
    data: bytes = b""
    options: bytes = b""
    """TCP's."""
    mac: bytes = b""
    """The link address that it comes from; empty for the neighbour's own."""

    def packet(self) -> bytes:
        """Return it with its IP header."""
        at = Position(1000, 2000)
        body = forge(self.source, self.destination, at, self.data, flags=_ACK, options=self.options)
        six = ":" in self.source[0]
        family = socket.AF_INET6 if six else socket.AF_INET
        ends = b"".join(socket.inet_pton(family, a) for a, _ in (self.source, self.destination))
        if six:
            first = 6 << 28 | self.service << 20
            return struct.pack(">IHBB", first, len(body), 6, self.hops) + ends + body
        length = 20 + len(body)
        head = struct.pack(">BBHHHBB", 0x45, self.service, length, 1, 0, self.hops, 6)
        return head + struct.pack(">H", checksum(head + b"\0\0" + ends)) + ends + body


class End(NamedTuple):
    """A neighbour's side of its link with the host, below every rule."""

    wire: socket.socket
    mac: bytes
    host_mac: bytes
    host_address: str

    def answered(self, strays: Iterable[Stray]) -> list[Stray]:
        """Send segments; return those that a reset answers."""
        cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cpus)})
        try:
            return self._answered(tuple(strays))
        finally:
            os.sched_setaffinity(0, cpus)

    def _answered(self, strays: tuple[Stray, ...]) -> list[Stray]:
        for stray in strays:
            kind = _IPV6 if ":" in stray.source[0] else _IPV4
            self._send(self.host_mac, kind, stray.packet(), stray.mac)
        ports: set[tuple[int, int]] = set()
        for _ in range(_PROBES):
            self._probe()
            while not self._heard(ports):
                pass
        return [s for s in strays if (s.destination[1], s.source[1]) in ports]

    def _send(self, to: bytes, kind: int, body: bytes, of: bytes = b"") -> None:
        self.wire.send(to + (of or self.mac) + struct.pack(">H", kind) + body)

    def _probe(self) -> None:
        """Ask for the host's address as one does who has none yet (RFC 5227)."""
        asked = socket.inet_aton(self.host_address)
        head = struct.pack(">HHBBH", 1, _IPV4, 6, 4, 1)
        self._send(b"\xff" * 6, _ARP, head + self.mac + bytes(4) + bytes(6) + asked)

    def _heard(self, resets: set[tuple[int, int]]) -> bool:
        """Take one frame; note the ports of a reset; tell whether it answers a probe."""
        frame, origin = self.wire.recvfrom(2000)
        kind = struct.unpack_from(">H", frame, 12)[0]
        if origin[2] == _OUTGOING:
            return False
        if kind == _ARP:
            return frame[20:22] == b"\0\2" and frame[38:42] == bytes(4)
        segment = parse(frame[14:]) if kind in (_IPV4, _IPV6) else None
        if segment is not None and segment.flags & RST:
            resets.add((segment.source_port, segment.destination_port))
        return False


class Site(NamedTuple):
    """The host's namespace, and its neighbours."""

    host: str
    server: End
    container: End


_MACS = {
    "eth0": ("02:00:00:00:01:01", "02:00:00:00:01:02"),
    "docker0": ("02:00:00:00:02:01", "02:00:00:00:02:02"),
}


@contextlib.contextmanager
def built(make: Callable[..., str]) -> Iterator[Site]:
    """Build the site in namespaces of ``make``."""
    host = make("jh")
    ends = []
    for link, theirs in (("eth0", (*SERVER, *FAR)), ("docker0", CONTAINER)):
        ends.append(_end(host, make("js"), link, theirs))
    for key in ("ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1"):
        run_command(host, ["sysctl", "-qw", f"net.{key}"])
    for way, via in zip(FAR, SERVER):
        run_command(host, ["ip", "route", "add", way, "via", via])
    run_command(host, ["nft", "add table ip warm; add chain ip warm c { type nat hook input "
                       "priority 0; }; delete table ip warm"])  # fmt: skip
    run_command(host, ["sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0"])
    try:
        yield Site(host, *ends)
    finally:
        for end in ends:
            end.wire.close()


def _end(host: str, other: str, link: str, theirs: tuple[str, ...]) -> End:
    ours, macs = HOST[link], _MACS[link]
    pair = ["type", "veth", "peer", "name", "up0", "address", macs[1], "netns", other]
    run_command(host, ["ip", "link", "add", link, "address", macs[0], *pair])
    run_command(host, ["ip", "link", "set", link, "group", str(GROUPS[link])])
    sides = ((host, link, ours, theirs[:2], macs[1]), (other, "up0", theirs, ours, macs[0]))
    for ns, name, own, peers, lladdr in sides:
        run_command(ns, ["ip", "link", "set", name, "up"])
        for address in own:
            length = "/64" if address[:4] in ("fd21", "fd17") else "/128" if ":" in address else ""
            length = length or ("/32" if address in FAR else "/24")
            nodad = ["nodad"] if ":" in address else []
            run_command(ns, ["ip", "address", "add", address + length, "dev", name, *nodad])
        for address in peers:
            add = ["ip", "neighbour", "add", address, "lladdr", lladdr, "dev", name]
            run_command(ns, [*add, "nud", "permanent"])
    for address in ours:
        run_command(other, ["ip", "route", "add", "default", "via", address])
    with namespaces.inside(other):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        wire.bind(("up0", _ETH_P_ALL))
    wire.settimeout(10)
    host_mac, mac = (bytes.fromhex(text.replace(":", "")) for text in macs)
    return End(wire, mac, host_mac, ours[0])


def load(site: Site, tool: str, text: str) -> None:
    """Put a ruleset in the place of the one before."""
    if tool == "nft":
        run_command(site.host, ["nft", "-f", "-"], stdin=f"flush ruleset\n{text}", timeout=60)
        return
    run_command(site.host, ["nft", "flush ruleset"], timeout=60)
    run_command(site.host, [tool], stdin=text, timeout=60)


def judged(site: Site) -> tuple[str, str]:
    """Return verdict and message on the rules that are there; no finding: ``-``."""
    return judged_in(site.host)


def judged_in(ns: str) -> tuple[str, str]:
    """Return verdict and message on the rules of a namespace."""
    fact, _ = facts_of(ns)
    assert fact.unread == ()
    moved = {"nf_conntrack.invalid": 0, "Tcp.OutRsts": 0}
    probes = (fact, Sysctl(), Counters(first=moved, last=moved), Tap())
    known: dict[str, object] = {name_of(type(probe)): probe for probe in probes}
    try:
        found = tcp_invalid_reset.detect(Facts(Host("", "", "", "", ""), "", 1.0, known), {})
    except Unreadable as why:
        return "unknown", str(why)
    return (found[0].verdict, found[0].message) if found else ("-", "")
