"""``nc -u -l`` hears a container's first datagram, and none after it.

netcat connects its socket to its first client. The kernel gives the socket the address it would
send from: the bridge's. What the client goes on sending to the host's uplink address then finds
no socket, and what netcat sends comes from an address that the client never asked.

The redirect on the bridge helps here, too: the client's datagrams reach the connected socket. In
the healthy twin netcat was bound to the uplink address.
"""

from __future__ import annotations

import os
import select
import socket

from remedies.lab import datagram
from remedies.lab.datagram import PATIENCE, QUESTIONS
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "udp-connected-server"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ("udp-redirect", "bind-advice")

PORT = datagram.PORT
POLICY = ("--policy", "docker-host")

look = datagram.look


def build(world: World) -> None:
    """Start netcat on the container host, on every address or (healthy) on one."""
    container_host(world)
    _serve(world)


def _serve(world: World) -> None:
    where = [addresses(world).uplink] if world.options.healthy else []
    option = ["-6"] if world.options.family == 6 else []
    world.start("host", ["remedies.lab.netcat", _ear(world), str(PORT), *where, *option])


def _ear(world: World) -> str:
    """Return the socket on which what netcat hears is told."""
    return f"{world.folder}/heard"


def traffic(world: World) -> TrafficOutcome:
    """Send twice, as the client that netcat is connected to, or as a new one.

    Alive when netcat prints both.
    """
    at, path = addresses(world), _ear(world)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear,
        datagram.client(world, "client", at.family, own=_client_port(world)) as client,
    ):
        ear.bind(path)
        try:
            client.connect((at.uplink, PORT))
            for number in range(1, QUESTIONS + 1):
                line = f"line {number}\n".encode()
                failure = _attempt(client, ear, line, world.patience(PATIENCE))
                if failure:
                    return TrafficOutcome(
                        False, f"datagram {number} to {at.uplink}:{PORT}: {failure}"
                    )
        finally:
            os.unlink(path)
    return TrafficOutcome(True, f"netcat printed {QUESTIONS} of {QUESTIONS} datagrams")


def _attempt(client: socket.socket, ear: socket.socket, line: bytes, patience: float) -> str:
    """Send one line; return why netcat did not print it, or an empty string when it did."""
    try:
        client.send(line)
        ready = select.select([client, ear], [], [], patience)[0]
        if client in ready:
            client.recv(1)
        return "" if ear in ready and line in ear.recv(65536) else "not heard"
    except ConnectionRefusedError:
        return "no socket has that address"


def _client_port(world: World) -> int:
    """Return the port of the client that netcat is connected to; 0 where it waits for a new one."""
    shown = world.run("host", ["ss", "-Hun", "state", "established", f"sport = :{PORT}"])
    return int(shown.split()[-1].rpartition(":")[2]) if shown.strip() else 0


def story(story: Story) -> None:
    """Show the deafness, prove it, redirect, and go back."""
    world = story.world

    def again() -> None:
        world.stop_all()
        _serve(world)

    before = story.dump()
    story.dies("A container talks to netcat on its host")
    story.scan("The cause, proven")
    story.command("What to do about it", "plan", says=(FIXES[1], addresses(world).uplink))
    story.unchanged("Looking changed nothing", before)
    story.command(
        "The redirect, while the client goes on",
        *(*POLICY, "apply", "--yes"),
        says=(FIXES[0], f"{CONDITION}: was {VERDICT}, now"),
        during=True,
    )
    story.lives("The same client, the same netcat")
    story.command("Undo it", "rollback", "--yes")
    story.person("netcat is started anew", again)
    story.dies("Without the redirect the next client fails again")
    story.unchanged("The host is what it was", before)
