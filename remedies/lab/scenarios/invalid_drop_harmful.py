"""Connections pass a firewall in one direction, and its INVALID drop ends them at their first byte.

The container reaches the server by the host, and the server answers by a link of its own, as with
direct server return. The host does no NAT, and its forward chain drops what conntrack calls
INVALID: the container's first ACK.

In the healthy twin answers come back by the host.
"""

from __future__ import annotations

import contextlib
import select
import socket

from remedies.lab import datagram
from remedies.lab.firewall import Firewall
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "invalid-drop-harmful"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ()

PORT, SIZE = 8080, 64
_HARDWARE = "02:00:00:00:17:02"
PATIENCE = 2.0
REQUESTS = 12
"""Every tenth of a second one: what watches half a second beside it hears some begin."""


def build(world: World) -> None:
    """Give the server a way back to the container: of its own, or (healthy) by the host."""
    container_host(world, nat=False)
    at = addresses(world)
    world.start("server", ["remedies.lab.taker", at.server, str(PORT), str(SIZE)])
    Firewall(world).drops_invalid()
    if world.options.healthy:
        world.ip("server", f"route add {at.subnet} via {at.uplink}")
        return
    world.ip("server", f"link add back type veth peer name back netns {world.namespace('client')}")
    world.ip("client", f"link set back address {_HARDWARE}")
    world.await_links(server=["back"], client=["back"])
    # The container does not answer for its address there (IPv6), and need not be asked.
    world.ip(
        "server",
        f"route add {at.client} dev back",
        f"neigh replace {at.client} lladdr {_HARDWARE} dev back nud permanent",
    )


def traffic(world: World) -> TrafficOutcome:
    """Send requests from the container, each by a connection of its own, until one is answered."""
    at = addresses(world)
    with contextlib.ExitStack() as stack:
        asking: list[socket.socket] = []
        while len(asking) < REQUESTS:
            client = stack.enter_context(world.socket("client", at.family, socket.SOCK_STREAM))
            client.settimeout(world.patience(PATIENCE))
            try:
                client.connect((at.server, PORT))
                client.sendall(bytes(SIZE))
            except OSError as error:
                return TrafficOutcome(False, f"a request to {at.server}: {error}")
            asking.append(client)
            if select.select(asking, [], [], world.patience(datagram.BEAT))[0]:
                return TrafficOutcome(True, f"a request to {at.server} was answered")
    return TrafficOutcome(False, f"none of {REQUESTS} requests to {at.server} was answered")


def story(story: Story) -> None:
    """Show the silence, name the rule, and let the connection by."""
    story.fault(
        "A container connects and sends a request", "The rule, and what lets the connection by"
    )
    at = addresses(story.world)
    story.person("A person lets it by", lambda: Firewall(story.world).lets_by(at.server, PORT))
    story.lives("The same request")


def look(world: World) -> tuple[str, ...]:
    """Return the commands that show what conntrack has seen."""
    enter = " ".join(world.entering("host"))
    return (f"{enter} conntrack -L -p tcp", f"{enter} conntrack -S")
