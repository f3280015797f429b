"""A peer with a route to the container network reaches no container since Docker was upgraded.

Docker drops, before anything is tracked, what is for a container's own address by any other link
than its bridge.

In the healthy twin the rule is the same, and the peer asks the host's address, on which the
container's port is published.
"""

from __future__ import annotations

from remedies.lab import datagram
from remedies.lab.firewall import Firewall
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "docker-direct-routing-drop"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ()

look = datagram.look


def build(world: World) -> None:
    """Start a service in the container and keep direct requests out (healthy: publish it)."""
    container_host(world)
    at = addresses(world)
    world.ip("server", f"route add {at.subnet} via {at.uplink}")
    world.start("client", ["remedies.lab.udp_server", at.client, str(datagram.PORT)])
    Firewall(world).keeps_out(at.client, "docker0")
    if world.options.healthy:
        Firewall(world).publish(at.uplink, datagram.PORT, at.client)


def traffic(world: World) -> TrafficOutcome:
    """Ask the container from outside."""
    at = addresses(world)
    asked = at.uplink if world.options.healthy else at.client
    return datagram.keep_asking(world, "server", at.family, asked, datagram.PORT)


def story(story: Story) -> None:
    """Show the silence, name the rule, and publish the port."""
    story.fault("A peer asks a container by its own address", "The cause, and what lets it in")
    world, at = story.world, addresses(story.world)
    story.person(
        "A person publishes the port",
        lambda: Firewall(world).publish(at.uplink, datagram.PORT, at.client),
    )
