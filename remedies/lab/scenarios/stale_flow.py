"""A client that never stops asking is not answered, although its service is published again.

A container's UDP service was published while a client outside went on asking from one port. NAT is
decided by the first packet of a flow, so this client's packets still go to the host itself, where
nobody listens; a client that comes new is answered.

In the healthy twin the service was published before the client began.
"""

from __future__ import annotations

from remedies.errors import RemedyError
from remedies.lab import datagram
from remedies.lab.firewall import Firewall
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "stale-flow"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ("flush-stale-flow",)

PORT = 5060
CLIENT = 5062
"""The client asks from this port alone, as a SIP phone does."""

look = datagram.look


def build(world: World) -> None:
    """Let the client ask, and publish the service then (healthy: before)."""
    container_host(world)
    for key in ("net.ipv4.icmp_ratelimit", "net.ipv6.icmp.ratelimit"):
        world.sysctl("host", key, "0")  # else a client waits, once some datagrams were refused
    at = addresses(world)
    world.start("client", ["remedies.lab.udp_server", at.client, str(PORT)])
    if world.options.healthy:
        Firewall(world).publish(at.uplink, PORT, at.client)
        return
    before = traffic(world)  # and its refusal has come back: the host has tracked it
    if before.alive:
        raise RemedyError(f"answered before it is published: {before.detail}")
    Firewall(world).publish(at.uplink, PORT, at.client)


def traffic(world: World) -> TrafficOutcome:
    """Ask the published service from the client's port."""
    at = addresses(world)
    return datagram.ask(world, "server", at.family, at.uplink, PORT, CLIENT)


def story(story: Story) -> None:
    """Show the silence and its cause, and end the one flow."""
    before = story.fault(
        "The client that has asked all the time", "The cause, and the command that ends it"
    )
    story.command(
        "The fix ends that flow, and nothing else",
        *("--policy", "docker-host", "apply", "--yes"),
        says=("flush-stale-flow", f"{CONDITION}: was proven, now absent"),
    )
    story.lives("The same client")
    story.command("Undo the rest: a flow is not put back", "rollback", "--yes")
    story.lives("It is answered as before")
    story.unchanged("The host is what it was", before)
