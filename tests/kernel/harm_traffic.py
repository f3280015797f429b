"""Traffic of the harm matrix: what came of one connection, in one word.

``lives``, ``reset`` (somebody ended it), ``refused`` (in answer to the first segment) or ``hangs``.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import cast

from harm_site import AT, PATIENCE, Site

from remedies.lab.segment import ACK, PUSH, RST, SYN, Ear, Position, checksum, forge
from remedies.lab.world import World as LabWorld

FAR = 100_000_000
"""How far outside the window the stray segment lies (bytes)."""
CHUNK = 2000
ROUNDS = 6
_TCP_REPAIR = 19  # include/uapi/linux/tcp.h
_MODULUS = 1 << 32
_ports = itertools.count(42000)

Probe = Callable[[Site, int], str]


class _Ear(Ear):
    """Hears one IP version: the other one's probe may use the same port at the same time."""

    def __init__(self, site: Site, role: str, port: int, version: int) -> None:
        super().__init__(cast(LabWorld, site), role, port)
        self._version = version

    def _take(self, packet: bytes, *, outgoing: bool) -> None:
        if packet[0] >> 4 == self._version:
            super()._take(packet, outgoing=outgoing)


def word(error: OSError) -> str:
    """Return what an error means for a connection."""
    if error.errno == errno.ECONNREFUSED:
        return "refused"
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return "reset"
    if isinstance(error, TimeoutError) or error.errno in (errno.EAGAIN, errno.EPERM):
        return "hangs"  # EPERM: a rule on output dropped the datagram
    raise error


@contextlib.contextmanager
def listening(
    site: Site, role: str, version: int, address: str, port: int
) -> Iterator[socket.socket]:
    """Give a listener."""
    with site.socket(role, AT[version].family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(4)
        listener.settimeout(PATIENCE)
        yield listener


def transfer(
    client: str, server: str, to: str, port: int, *, serves: str = "", source: str = "",
    bound: int = 0, stray: int = 0, between: Callable[[Site, int], None] | None = None,
    patience: float = PATIENCE,
) -> Probe:  # fmt: skip
    """Return a probe that sends chunks there and back.

    ``to`` and ``port`` are what the client asks for; ``serves`` the address that the server is
    bound to (the same where it is empty) and ``bound`` its port. With ``stray`` the server's side
    sends one segment that far above the window; ``between`` is done halfway.
    """

    def probe(site: Site, version: int) -> str:
        at = AT[version]
        here, inner = getattr(at, serves or to), bound or port
        with (
            contextlib.ExitStack() as stack,
            listening(site, server, version, here, inner) as listener,
            site.socket(client, at.family, socket.SOCK_STREAM) as asking,
        ):
            ear = stack.enter_context(_Ear(site, server, inner, version)) if stray else None
            asking.settimeout(patience)
            listener.settimeout(patience)
            if source:
                asking.bind((getattr(at, source), 0))
            try:
                asking.connect((getattr(at, to), port))
                answering, peer = listener.accept()
                with answering:
                    answering.settimeout(patience)
                    for number in range(ROUNDS):
                        if number == ROUNDS // 2:
                            if ear:
                                _send_stray(
                                    site, server, at.family, ear, (here, inner), peer, stray
                                )
                            if between:
                                between(site, version)
                            site.halfway(version)
                        _echo(asking, answering)
                        if ear:
                            ear.listen()
                    if ear and ear.resets:
                        return "reset"  # which a busy machine let the next chunk overtake
                    asking.shutdown(socket.SHUT_WR)
                    answering.recv(1)
            except OSError as error:
                # Or its data comes again, and SYNPROXY makes it a connection to the next listener.
                asking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return word(error)
        return "lives"

    return probe


def answered(
    client: str, to: str, port: int, server: str = "h", *, serves: str = "",
    takes_any: bool = False, source: tuple[str, int] | None = None,
) -> Probe:  # fmt: skip
    """Return a probe that asks over UDP and waits for the answer.

    The server is bound to every address, so the kernel picks the one it answers from, or to
    ``serves``. The client takes an answer from the address that it asked, or from any.
    """

    def probe(site: Site, version: int) -> str:
        at = AT[version]
        with (
            site.socket(server, at.family, socket.SOCK_DGRAM) as answering,
            site.socket(client, at.family, socket.SOCK_DGRAM) as asking,
        ):
            if version == 6:  # the other probe serves the port over IPv4
                answering.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            answering.bind((getattr(at, serves) if serves else at.any, port))
            answering.settimeout(PATIENCE)
            asking.settimeout(PATIENCE)
            if source is not None:
                asking.bind((getattr(at, source[0]), source[1]))
            asked = (getattr(at, to), port)
            try:
                if takes_any:
                    asking.sendto(b"question", asked)
                else:
                    asking.connect(asked)
                    asking.send(b"question")
                question, peer = answering.recvfrom(100)
                site.halfway(version)
                answering.sendto(question, peer)
                asking.recv(100)
            except OSError as error:
                return word(error)
        return "lives"

    return probe


def _send_stray(
    site: Site, role: str, family: int, ear: Ear, here: tuple[str, int],
    peer: tuple[str, int], stray: int,
) -> None:  # fmt: skip
    position = Position(ear.position.sequence + stray, ear.position.acknowledge)
    with site.socket(role, family, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.sendto(forge(here, (peer[0], peer[1]), position, b"stray"), (peer[0], 0))


def _echo(asking: socket.socket, answering: socket.socket) -> None:
    chunk = os.urandom(CHUNK)
    for sender, receiver in ((asking, answering), (answering, asking)):
        sender.sendall(chunk)
        got = b""
        while len(got) < CHUNK:
            part = receiver.recv(CHUNK - len(got))
            if not part:
                raise ConnectionResetError(errno.ECONNRESET, "closed")
            got += part


def refused(client: str, to: str, port: int, source: str = "") -> Probe:
    """Return a probe that asks a closed port: it lives where the refusal comes."""

    def probe(site: Site, version: int) -> str:
        at = AT[version]
        with site.socket(client, at.family, socket.SOCK_STREAM) as asking:
            asking.settimeout(PATIENCE)
            if source:
                asking.bind((getattr(at, source), 0))
            try:
                asking.connect((getattr(at, to), port))
            except OSError as error:
                return "lives" if word(error) == "refused" else word(error)
        return "answered"

    return probe


def abandoned(client: str, server: str, to: str, source: str) -> Probe:
    """Return a probe of a client whose server has closed: its next data is answered by a reset.

    It lives where that reset comes; else the client waits until a time-out.
    """

    def probe(site: Site, version: int) -> str:
        at = AT[version]
        with (
            listening(site, server, version, getattr(at, to), 8002) as listener,
            site.socket(client, at.family, socket.SOCK_STREAM) as asking,
        ):
            asking.settimeout(PATIENCE)
            asking.bind((getattr(at, source), 0))
            try:
                asking.connect((getattr(at, to), 8002))
                listener.accept()[0].close()
                asking.recv(1)
                asking.send(b"x")
            except OSError as error:
                return word(error)
            told = select.poll()
            told.register(asking, select.POLLERR | select.POLLHUP)
            return "lives" if told.poll(1000 * PATIENCE) else "hangs"

    return probe


def reused(client: str, source: str, to: str) -> Probe:
    """Return a probe of a client that comes back with the port of a connection it has forgotten.

    The server answers its SYN with an acknowledgment; only the client's reset makes room.
    """

    def probe(site: Site, version: int) -> str:
        at, port = AT[version], next(_ports)
        with listening(site, "v", version, getattr(at, to), 7000) as listener:
            held = []
            for attempt in (1, 2):
                asking = site.socket(client, at.family, socket.SOCK_STREAM)
                asking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                asking.bind((getattr(at, source), port))
                asking.settimeout(4 * PATIENCE)
                try:
                    asking.connect((getattr(at, to), 7000))
                    held.append(listener.accept()[0])
                except OSError as error:
                    asking.close()
                    return word(error)
                if attempt == 1:
                    asking.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)  # closes without a word
                    site.forget(version)
                with site.running():  # or the first connection lives on in a child
                    asking.close()
            for end in held:
                end.close()
        return "lives"

    return probe


def renumbered(to: str, port: int, server: str, serves: str, bound: int) -> Probe:
    """Return a probe through a box that rewrites sequence numbers, and forgets SACK blocks.

    A raw client outside: it offers SACK, and its request carries blocks 900 MB off.
    """

    def probe(site: Site, version: int) -> str:
        at, mine = AT[version], next(_ports)
        site.run("v", ["nft", "-f", "-"], stdin=_NO_RESETS.format(version=version, port=mine))
        try:
            with (
                listening(site, server, version, getattr(at, serves), bound) as listener,
                site.socket("v", at.family, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw,
            ):
                raw.settimeout(PATIENCE)
                ends = (at.outside, mine), (getattr(at, to), port)
                raw.sendto(_segment(*ends, 1000, 0, SYN, b"\x02\x04\x05\xb4\x04\x02\x01\x01"),
                           (ends[1][0], 0))  # fmt: skip
                sequence, _, _ = _heard(raw, at.family, port, mine)
                raw.sendto(_segment(*ends, 1001, sequence + 1, ACK), (ends[1][0], 0))
                answering, _ = listener.accept()
                with answering:
                    answering.settimeout(PATIENCE)
                    edge = (sequence + 900_000_000) % _MODULUS
                    block = struct.pack("!BBBBII", 1, 1, 5, 10, edge, (edge + 1000) % _MODULUS)
                    raw.sendto(_segment(*ends, 1001, sequence + 1, ACK | PUSH, block, b"GET"),
                               (ends[1][0], 0))  # fmt: skip
                    try:
                        return "lives" if answering.recv(3) == b"GET" else "reset"
                    except TimeoutError:
                        raw.settimeout(0.01)
                        while not _heard(raw, at.family, port, mine)[2] & RST:
                            pass
                        return "reset"
        except OSError as error:
            return word(error)
        finally:
            site.run("v", ["nft", "delete", "table", "inet", f"own{version}"])

    return probe


_NO_RESETS = """
table inet own{version} {{ chain o {{ type filter hook output priority 0;
tcp sport {port} tcp flags & rst == rst drop
}}
}}
"""


def _segment(
    source: tuple[str, int], destination: tuple[str, int], sequence: int, acknowledge: int,
    flags: int, options: bytes = b"", payload: bytes = b"",
) -> bytes:  # fmt: skip
    family = socket.AF_INET6 if ":" in source[0] else socket.AF_INET
    pseudo = b"".join(socket.inet_pton(family, a) for a in (source[0], destination[0]))
    length = 20 + len(options) + len(payload)
    pseudo += struct.pack("!I3xB" if family == socket.AF_INET6 else "!xBH",
                          *((length, 6) if family == socket.AF_INET6 else (6, length)))  # fmt: skip

    def made(total: int) -> bytes:
        words = (source[1], destination[1], sequence % _MODULUS, acknowledge % _MODULUS,
                 (20 + len(options)) << 2, flags, 512, total, 0)  # fmt: skip
        return struct.pack("!HHIIBBHHH", *words) + options + payload

    return made(checksum(pseudo + made(0)))


def _heard(raw: socket.socket, family: int, source: int, mine: int) -> tuple[int, int, int]:
    """Return sequence, acknowledgment and flags of the next segment for our port."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        packet = raw.recv(65536)
        start = (packet[0] & 15) * 4 if family == socket.AF_INET else 0
        head = struct.unpack_from("!HHIIBB", packet, start)
        if head[:2] == (source, mine):
            return head[2], head[3], head[5]
    raise TimeoutError


def version_four(probe: Probe) -> Probe:
    """Return a probe of what IPv4 alone knows; over IPv6 the host asks its own loopback."""
    own = transfer("h", "h", "loopback", 8060)
    return lambda site, version: (probe if version == 4 else own)(site, version)


def from_outside(client: str, link: str, server: str, port: int) -> Probe:
    """Return a probe of a machine that sends what is for 127.0.0.1 to the host, by its link."""
    asked = transfer(client, server, "loopback", port)

    def probe(site: Site, version: int) -> str:
        at, own = AT[version], ["127.0.0.1/8", "dev", "lo"]
        way = [at.loopback, "via", at.host, "dev", link, "src", at.neighbour]
        site.run(client, ["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"])
        site.run(client, ["ip", "addr", "del", *own])
        site.run(client, ["ip", "route", "add", *way])
        try:
            return asked(site, version)
        finally:
            site.run(client, ["ip", "route", "del", *way])
            site.run(client, ["ip", "addr", "add", *own])

    return probe
