"""A burst of datagrams finds a server busy, its receive buffer is small, and most are lost.

The server answers one datagram after another and takes a moment for each. What arrives meanwhile
has to wait in its receive buffer, which has room for one or two. No rule drops anything, and
nobody is told.

The healthy twin answers at once, from a buffer with room for the whole burst.
"""

from __future__ import annotations

import select
import socket
import time

from remedies.lab import datagram
from remedies.lab.story import Story
from remedies.lab.topology import addresses, uplink
from remedies.lab.world import DEADLINE, TrafficOutcome, World

CONDITION = "udp-receive-buffer"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ()

BURST = 40
_SIZE = 800
_AGAIN = 0.05
"""Seconds after which the end of a burst is told again: it may be lost as well."""
_END = b"end"

look = datagram.look


def build(world: World) -> None:
    """Join host and server, and start a server on the host that is asked from outside."""
    uplink(world)
    serve(world, roomy=world.options.healthy)


def serve(world: World, *, roomy: bool) -> None:
    """Start the server."""
    room = ["200000"] if roomy else ["1", "0.02"]
    argv = ["remedies.lab.udp_server", addresses(world).uplink, str(datagram.PORT), *room]
    world.start("host", argv)


def traffic(world: World) -> TrafficOutcome:
    """Send a burst from outside and count the answers.

    Answers come in the order of the datagrams: once the end is answered, nothing else will be.
    """
    at = addresses(world)
    with world.socket("server", at.family, socket.SOCK_DGRAM) as client:
        client.connect((at.uplink, datagram.PORT))
        for number in range(BURST):
            client.send(f"{number}".encode().ljust(_SIZE))
        answered, until = 0, time.monotonic() + DEADLINE
        while time.monotonic() < until:
            client.send(_END)
            while select.select([client], [], [], _AGAIN)[0]:
                if client.recv(_SIZE) == _END:
                    said = f"{answered} of {BURST} datagrams of a burst answered"
                    return TrafficOutcome(answered == BURST, said)
                answered += 1
    return TrafficOutcome(False, "the server does not answer")


def story(story: Story) -> None:
    """Show the loss, name the socket, and let its owner make room."""
    world = story.world
    before = story.dump()
    story.dies("A client outside sends a burst")
    story.scan("The cause, proven while it happens")
    story.command(
        "Nothing is lost now, and what was lost before is no fault",
        *("scan", "--show-all"),
        says=(f"absent {CONDITION}",),
    )
    story.unchanged("Looking changed nothing", before)

    def restart() -> None:
        world.stop_all()
        serve(world, roomy=True)

    story.person("The server's owner gives it room and takes the work elsewhere", restart)
    story.lives("The same burst")
