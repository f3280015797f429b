"""A published port answers nobody outside: the firewall refuses what DNAT has sent on.

The port of the container's service is published on the host. The firewall knows of another port
alone and rejects what else DNAT has turned, as firewalld does with ``StrictForwardPorts=yes``.

In the healthy twin it accepts all that DNAT has turned, as it does without that setting.
"""

from __future__ import annotations

from remedies.lab import datagram
from remedies.lab.firewall import Firewall
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "published-but-refused"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ()

OTHER = 8080

look = datagram.look


def build(world: World) -> None:
    """Publish a service of the container; write the forward chain."""
    container_host(world)
    at = addresses(world)
    world.start("client", ["remedies.lab.udp_server", at.client, str(datagram.PORT)])
    Firewall(world).publish(at.uplink, datagram.PORT, at.client)
    Firewall(world).refuses_published(healthy=world.options.healthy)
    if not world.options.healthy and world.options.nat == "nft":
        Firewall(world).admits(OTHER)


def traffic(world: World) -> TrafficOutcome:
    """Ask the published port from outside."""
    at = addresses(world)
    return datagram.keep_asking(world, "server", at.family, at.uplink, datagram.PORT)


def story(story: Story) -> None:
    """Show the refusal, and name the rule and what lets the port in."""
    story.fault("A client outside asks the published port", "The cause, and what lets it in")
    story.person(
        "A person adds a forward port", lambda: Firewall(story.world).admits(datagram.PORT)
    )
    story.lives("The same question")
