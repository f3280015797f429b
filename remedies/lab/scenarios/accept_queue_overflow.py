"""New connections to a server of the host time out: it does not accept those that wait.

The server listens and hangs. The kernel completes the first handshakes for it, until as many
connections wait as the server allows; from then on it drops every SYN, and clients try again in
vain. No rule drops anything, and the host's other services are well.

The healthy twin accepts whoever comes.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time

from remedies.lab.greeter import GREETING
from remedies.lab.story import Story
from remedies.lab.topology import addresses, uplink
from remedies.lab.world import TrafficOutcome, World

CONDITION = "accept-queue-overflow"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ()

PORT = 8080
CLIENTS = 6
_APART = 0.15
"""Seconds until the next client comes where the last one was not greeted."""
PATIENCE = 1.0


def build(world: World) -> None:
    """Join host and server, and start a server on the host that is asked from outside."""
    uplink(world)
    serve(world, stuck=not world.options.healthy)


def serve(world: World, *, stuck: bool) -> None:
    """Start the server."""
    how = ["1", "stuck"] if stuck else ["64"]
    world.start("host", ["remedies.lab.greeter", addresses(world).uplink, str(PORT), *how])


def traffic(world: World) -> TrafficOutcome:
    """Connect from outside, client after client, and count those that are greeted."""
    at = addresses(world)
    with contextlib.ExitStack() as stack:
        waiting: set[socket.socket] = set()
        for _ in range(CLIENTS):
            client = stack.enter_context(world.socket("server", at.family, socket.SOCK_STREAM))
            client.setblocking(False)
            client.connect_ex((at.uplink, PORT))
            waiting.add(client)
            _await(waiting, _APART)
        _await(waiting, world.patience(PATIENCE))
    greeted = CLIENTS - len(waiting)
    return TrafficOutcome(not waiting, f"{greeted} of {CLIENTS} connections were greeted")


def _await(waiting: set[socket.socket], patience: float) -> None:
    """Take clients out that are greeted, until none is left or ``patience`` (seconds) is over."""
    until = time.monotonic() + patience
    while waiting and (left := until - time.monotonic()) > 0:
        for client in select.select([*waiting], [], [], left)[0]:
            if client.recv(len(GREETING)) == GREETING:
                waiting.discard(client)


def story(story: Story) -> None:
    """Show the time-outs, name the listener, and let its owner restart it."""
    world = story.world
    story.fault("Clients outside connect", "The cause, proven while it happens")

    def restart() -> None:
        world.stop_all()
        serve(world, stuck=False)

    story.person("The server's owner restarts it, and lets more connections wait", restart)
    story.lives("The next clients")
    story.command(
        "What was lost before is no fault",
        *("scan", "--show-all"),
        says=(f"absent {CONDITION}",),
    )


def look(world: World) -> tuple[str, ...]:
    """Return what shows how many connections wait, and how many were lost."""
    enter = " ".join(world.entering("host"))
    return (f"{enter} ss -ltn", f"{enter} nstat -az TcpExtListenOverflows")
