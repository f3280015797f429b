"""Containers cannot connect to one busy service: NAT has no source port left towards it.

The host masquerades with a handful of ports, as behind an address that many share. Clients in the
container hold a connection on each.

In the healthy twin all ports may be used.
"""

from __future__ import annotations

import select
import socket
import time

from remedies.errors import RemedyError
from remedies.lab import notifier
from remedies.lab.firewall import Firewall
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import DEADLINE, TrafficOutcome, World

CONDITION = "snat-port-exhaustion"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ()

PORT = 5432
FIRST, PORTS = 40000, 4
PATIENCE = 0.15
TRIES = 5
_HELD = "3600"
"""Seconds that a client holds its connection: longer than any story takes."""


def build(world: World) -> None:
    """Masquerade by few ports (healthy: by any), and hold connections."""
    container_host(world, nat=world.options.healthy)
    at = addresses(world)
    if not world.options.healthy:
        Firewall(world).masquerade(at.subnet, "docker0", f"{FIRST}-{FIRST + PORTS - 1}")
    for role, name in (("server", "serve"), ("client", "subscribe")):
        world.start(role, ["remedies.lab.notifier", name, at.server, str(PORT), _HELD])
    if not world.options.healthy:
        _await_full(world)


def _await_full(world: World) -> None:
    """Wait until the clients hold each port: each of their connections has one of its own."""
    held = ["ss", "-Htn", "state", "established", f"dport = :{PORT}"]
    until = time.monotonic() + DEADLINE
    while len(world.run("client", held).splitlines()) < PORTS:
        if time.monotonic() > until:
            raise RemedyError("the clients do not use up the ports")
        select.select([], [], [], notifier.EVERY)


def traffic(world: World) -> TrafficOutcome:
    """Connect from the container, a few times."""
    at = addresses(world)
    for number in range(1, TRIES + 1):
        with world.socket("client", at.family, socket.SOCK_STREAM) as client:
            client.settimeout(world.patience(PATIENCE))
            try:
                client.connect((at.server, PORT))
            except TimeoutError:
                continue
        return TrafficOutcome(True, f"connected to {at.server}:{PORT} at attempt {number}")
    return TrafficOutcome(False, f"none of {TRIES} connections to {at.server}:{PORT} was made")


def story(story: Story) -> None:
    """Show that nobody gets in, and name the destination."""
    story.fault("A container connects to the service", "The destination, and the counters")


def look(world: World) -> tuple[str, ...]:
    """Return the commands that show who holds the ports."""
    enter = " ".join(world.entering("host"))
    return (f"{enter} conntrack -L -p tcp", f"{enter} conntrack -S")
