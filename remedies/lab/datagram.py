"""Asking a UDP service and telling apart the ways in which the answer can fail to come."""

from __future__ import annotations

import errno
import itertools
import secrets
import select
import socket
import time

from remedies.lab.topology import addresses
from remedies.lab.world import TrafficOutcome, World

PATIENCE = 1.0
"""Seconds to wait for an answer when nothing else tells that it will not come."""
BEAT = 0.1
"""Seconds between two questions of one who keeps asking."""
QUESTIONS = 2
PORT = 56789
"""Of the services that have no well-known port."""

_PORTS = range(20000, 32768)
"""Of clients here: below those that the kernel gives to others (ip_local_port_range)."""
_taken = itertools.count(secrets.randbelow(len(_PORTS)))

_TOLD = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES)
"""What a client hears of ICMP that says why it is not answered: icmp_err_convert[]
(net/ipv4/icmp.c), tab_unreach[] (net/ipv6/icmp.c)."""
_ETH_P_ALL = 0x0003  # include/uapi/linux/if_ether.h
_PACKET_HOST = 0  # include/uapi/linux/if_packet.h: addressed to this host


def client(world: World, role: str, family: int, source: str = "", own: int = 0) -> socket.socket:
    """Open the UDP socket of a client, of which neither the host nor conntrack knows.

    ``source``: its address; empty: any. ``own``: its port; 0: one that no client of this process
    had. The kernel gives any port that is free, also one whose last flow conntrack still has, with
    that flow's NAT.
    """
    end = world.socket(role, family, socket.SOCK_DGRAM)
    end.bind((source, own or _PORTS[next(_taken) % len(_PORTS)]))
    return end


def ask(
    world: World, role: str, family: int, address: str, port: int, own: int = 0
) -> TrafficOutcome:
    """Ask ``address``:``port`` from a namespace, over a connected socket, ``QUESTIONS`` times.

    ``own``: the client's port; 0: that of a new client.

    Alive when each question is answered with itself. An answer that comes from another source
    never reaches the socket; it is heard on ``eth0``, so nobody has to wait for the time-out.
    """
    with (
        world.socket(role, socket.AF_PACKET, socket.SOCK_DGRAM) as ear,
        client(world, role, family, own=own) as end,
    ):
        ear.bind(("eth0", _ETH_P_ALL))
        end.connect((address, port))
        for number in range(1, QUESTIONS + 1):
            question = f"question {number}".encode()
            failure = _attempt(end, ear, question, address, world.patience(PATIENCE))
            if failure:
                return TrafficOutcome(False, f"datagram {number} to {address}:{port}: {failure}")
    return TrafficOutcome(
        True, f"{QUESTIONS} of {QUESTIONS} datagrams to {address}:{port} answered"
    )


def keep_asking(
    world: World, role: str, family: int, address: str, port: int, source: str = "", own: int = 0
) -> TrafficOutcome:
    """Ask ``address``:``port`` every :data:`BEAT` until an answer comes, for :data:`PATIENCE`.

    ``source``: the client's address; empty: any. ``own``: its port; 0: that of a new client.

    What watches half a second beside it hears several questions.
    """
    patience = world.patience(PATIENCE)
    with client(world, role, family, source, own) as end:
        until = time.monotonic() + patience
        while time.monotonic() < until:
            try:
                end.connect((address, port))
                end.send(b"question")
                if select.select([end], [], [], BEAT)[0] and end.recv(65536):
                    return TrafficOutcome(True, f"{address}:{port} answered")
            except OSError as error:
                if error.errno not in _TOLD:
                    raise
                select.select([], [], [], BEAT)
    return TrafficOutcome(False, f"{address}:{port} did not answer for {patience:g} s")


def ask_uplink(world: World, port: int = PORT) -> TrafficOutcome:
    """Ask the host's uplink address, from the container."""
    at = addresses(world)
    return ask(world, "client", at.family, at.uplink, port)


def look(world: World) -> tuple[str, ...]:
    """Return the commands that show the host's UDP flows and sockets."""
    enter = " ".join(world.entering("host"))
    return (f"{enter} conntrack -L -p udp", f"{enter} ss -uanp")


def _attempt(
    client: socket.socket, ear: socket.socket, question: bytes, address: str, patience: float
) -> str:
    """Send one question; return why no answer came, or an empty string when it did."""
    try:
        client.send(question)
        while True:
            ready = select.select([client, ear], [], [], patience)[0]
            if client in ready:
                return "" if client.recv(65536) == question else "answered with something else"
            if not ready:
                return "no answer"
            packet, origin = ear.recvfrom(65536)
            source = _source(packet) if origin[2] == _PACKET_HOST and question in packet else ""
            if source and source != address:
                return f"the answer came from {source} and was refused"
    except OSError as error:
        if error.errno != errno.ECONNREFUSED:
            raise
        return "connection refused"


def _source(packet: bytes) -> str:
    """Return the source address of a UDP packet; empty for anything else."""
    if packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_UDP:
        return socket.inet_ntop(socket.AF_INET, packet[12:16])
    if packet[0] >> 4 == 6 and packet[6] == socket.IPPROTO_UDP:
        return socket.inet_ntop(socket.AF_INET6, packet[8:24])
    return ""
