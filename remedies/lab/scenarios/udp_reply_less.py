"""A log receiver on every address: harmless as long as it never answers.

Syslog over UDP is one way: whichever address the kernel would answer from, nobody ever sees an
answer. This receiver acknowledges what it takes, and a container's client, connected to the host's
uplink address, refuses every acknowledgment, for it comes from the bridge's.

The healthy twin is the same socket without the answers: it takes what it is sent, conntrack holds
no answer of it from any address, and so it is not accused.
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

CONDITION = "udp-reply-source"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ("bind-advice",)

PORT = 514

look = datagram.look


def build(world: World) -> None:
    """Start a receiver that acknowledges, or (healthy) one that does not."""
    container_host(world)
    if world.options.healthy:
        world.start("host", ["remedies.lab.silent_server", _ear(world), str(PORT)])
    else:
        world.start("host", ["remedies.lab.udp_server", "::", str(PORT)])


def _ear(world: World) -> str:
    """Return the socket on which what the receiver takes is told."""
    return f"{world.folder}/taken"


def traffic(world: World) -> TrafficOutcome:
    """Send twice from the container; await the acknowledgment, or (healthy) only the taking."""
    at = addresses(world)
    if not world.options.healthy:
        return datagram.ask_uplink(world, PORT)
    path = _ear(world)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear,
        datagram.client(world, "client", at.family) as client,
    ):
        ear.bind(path)
        try:
            client.connect((at.uplink, PORT))
            for number in range(1, QUESTIONS + 1):
                client.send(f"<13>line {number}".encode())
                if not select.select([ear], [], [], world.patience(PATIENCE))[0]:
                    return TrafficOutcome(
                        False, f"line {number} to {at.uplink}:{PORT} was not taken"
                    )
                ear.recv(65536)
        finally:
            os.unlink(path)
    return TrafficOutcome(True, f"{QUESTIONS} of {QUESTIONS} lines to {at.uplink}:{PORT} taken")


def story(story: Story) -> None:
    """Show the refused acknowledgment, prove it, and what a policy may do about it."""
    world = story.world
    before = story.dump()
    story.dies("A container logs to its host, and awaits acknowledgments")
    story.scan("The cause, proven")
    story.command("What to do about it", "plan", says=(*FIXES, addresses(world).uplink))
    story.unchanged("Looking changed nothing", before)
