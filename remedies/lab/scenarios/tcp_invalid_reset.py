"""A container's download dies with "Connection reset by peer", and nobody reset it.

A client in a container echoes data off a server, through the host's NAT. In the middle the
server's network delivers one segment whose sequence number is far outside the window, as
happens with reordering and long delays. Connection tracking calls it INVALID, so NAT is not
undone for it; it arrives as if meant for the host itself; no socket there has the port; the host
answers with a reset; and that reset carries the connection's own numbers: the server believes it.

The healthy twin carries an acknowledgment that is late instead (2 MB below the window): Linux
6.1 and later ignores it. On older kernels the twin carries nothing unusual.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket

from remedies.lab.segment import Ear, Endpoint, Position, forge
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "tcp-invalid-reset"
VERDICT = "proven"
HEALTHY = "exposed"
FIXES = ("tcp-be-liberal", "invalid-drop")

PORT = 443
CHUNK = 4096
CHUNKS = 64
PATIENCE = 2.0
"""Seconds without progress after which the connection counts as dead."""
_ANSWER = 0.1
"""Seconds within which a reset that answers the segment arrives."""
ABOVE = 100_000_000
"""How far above the window the bad segment lies (bytes)."""
BELOW = 2_000_000
IGNORES_LATE_ACK = (6, 1)
"""Linux 6.1, 6e250dcbff1d "netfilter: conntrack: ignore overly delayed tcp packets"."""


def build(world: World) -> None:
    """Wire the container host; the fault needs nothing but NAT."""
    container_host(world)


def traffic(world: World) -> TrafficOutcome:
    """Run one transfer with the segment that the world's options ask for in its middle."""
    if not world.options.healthy:
        return transfer(world, sequence=ABOVE)
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if release >= IGNORES_LATE_ACK:
        return transfer(world, acknowledge=-BELOW)
    return transfer(world)


def transfer(
    world: World,
    sequence: int = 0,
    acknowledge: int = 0,
    *,
    published: bool = False,
    asking: bool = False,
) -> TrafficOutcome:
    """Echo ``CHUNKS`` chunks; halfway the server sends one segment that is off.

    ``sequence`` and ``acknowledge`` say by how many bytes; both 0: no such segment. With
    ``published`` the server is in the container, and the client asks the host's address from
    outside: some rule has to lead there. ``asking``: the segment is the client's. The connection
    lived when every byte came back and both ends closed in order.
    """
    at = addresses(world)
    serves, asks = ("client", "server") if published else ("server", "client")
    address, asked = (at.client, at.uplink) if published else (at.server, at.server)
    with contextlib.ExitStack() as opened:
        listener, client = (
            opened.enter_context(world.socket(role, at.family, socket.SOCK_STREAM))
            for role in (serves, asks)
        )
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, PORT))
        listener.listen(1)
        for end in (listener, client):
            end.settimeout(world.patience(PATIENCE))
        try:
            client.connect((asked, PORT))
            server, peer = listener.accept()
        except OSError as error:
            return _died(error, 0, 0)
        opened.enter_context(server).settimeout(world.patience(PATIENCE))
        role, end, source, to = serves, server, (address, PORT), (peer[0], peer[1])
        if asking:
            role, end, to = asks, client, (asked, PORT)
            source = client.getsockname()[:2]
        ear = opened.enter_context(Ear(world, role, source[1]))
        raw = opened.enter_context(
            world.socket(role, at.family, socket.SOCK_RAW, socket.IPPROTO_TCP)
        )
        echoed = 0
        try:
            for number in range(CHUNKS):
                if number == CHUNKS // 2 and (sequence or acknowledge):
                    raw.sendto(_stray(ear, source, to, sequence, acknowledge), (to[0], 0))
                    # On a busy host what is sent next would overtake the reset: it ends nothing
                    # then, for the window has moved on.
                    select.select([end], [], [], world.patience(_ANSWER, alive=False))
                _echo(client, server, os.urandom(CHUNK))
                echoed += CHUNK
                ear.listen()
            client.shutdown(socket.SHUT_WR)
            if server.recv(1) != b"":
                raise ConnectionError("more arrived than was sent")
            server.shutdown(socket.SHUT_WR)
            if client.recv(1) != b"":
                raise ConnectionError("more arrived than was sent")
        except OSError as error:
            ear.listen()
            return _died(error, echoed, ear.resets)
        ear.listen()
        return TrafficOutcome(True, _amount(echoed), ear.resets)


def _died(error: OSError, echoed: int, resets: int) -> TrafficOutcome:
    reason = error.strerror or str(error) or type(error).__name__
    return TrafficOutcome(False, f"{_amount(echoed)}: {reason}", resets)


def _amount(echoed: int) -> str:
    return f"{echoed // 1024} of {CHUNKS * CHUNK // 1024} KiB echoed"


def _echo(client: socket.socket, server: socket.socket, chunk: bytes) -> None:
    """Send a chunk there and back; raises ConnectionError where it comes back different."""
    client.sendall(chunk)
    server.sendall(_receive(server, len(chunk)))
    if _receive(client, len(chunk)) != chunk:
        raise ConnectionError("what came back is not what was sent")


def _receive(end: socket.socket, length: int) -> bytes:
    got = b""
    while len(got) < length:
        part = end.recv(length - len(got))
        if not part:
            raise ConnectionError("closed by the other end")
        got += part
    return got


def _stray(ear: Ear, source: Endpoint, to: Endpoint, sequence: int, acknowledge: int) -> bytes:
    """Return one segment of the ear's end, ``sequence`` and ``acknowledge`` bytes off."""
    position = Position(
        ear.position.sequence + sequence,
        ear.position.acknowledge + acknowledge,
    )
    return forge(source, to, position, b"stray" if sequence else b"")


def story(story: Story) -> None:
    """Show the reset, prove it, drop the invalid segment instead, and go back."""
    before = story.dump()
    story.dies("A transfer through NAT dies")
    story.scan("The cause, proven while it happens")
    story.command("What would change", "plan", says=FIXES[:1])
    story.unchanged("Looking changed nothing", before)
    story.heals(
        FIXES[0],
        before=before,
        again="The same transfer, the same stray segment",
        back="Without the fix the transfer dies again",
    )


def look(world: World) -> tuple[str, ...]:
    """Return the counters and tables the fault shows in."""
    enter = " ".join(world.entering("host"))
    return (
        f"{enter} nft list ruleset",
        f"{enter} conntrack -L -p tcp",
        f"{enter} cat /proc/net/stat/nf_conntrack",
    )
