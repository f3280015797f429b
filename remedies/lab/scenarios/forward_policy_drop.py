"""Containers of one bridge lost the world outside when Docker was started beside them.

The forward chain drops by policy and accepts what Docker's own bridge sends. The other network has
no rule there. An accept in a table of its own would not help: what one chain accepts the next one
drops.

In the healthy twin the chain accepts what either bridge sends.
"""

from __future__ import annotations

from remedies.lab import datagram
from remedies.lab.firewall import Firewall
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "forward-policy-drop"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ()

DOCKERS, OTHERS = "br-docker", "docker0"
"""Docker's bridge, of which nothing is plugged in, and the one of the container here."""

look = datagram.look


def build(world: World) -> None:
    """Start a server outside; write the forward chain (healthy: with rules for both)."""
    container_host(world)
    at = addresses(world)
    world.start("server", ["remedies.lab.udp_server", at.server, str(datagram.PORT)])
    Firewall(world).forwards(*((DOCKERS, OTHERS) if world.options.healthy else (DOCKERS,)))


def traffic(world: World) -> TrafficOutcome:
    """Ask the server outside from the container."""
    at = addresses(world)
    return datagram.keep_asking(world, "client", at.family, at.server, datagram.PORT)


def story(story: Story) -> None:
    """Show the silence, name the chain, and accept in it what the network begins."""
    story.fault("A container asks a server outside", "The cause, and what lets it out")
    story.person(
        "A person accepts what the network begins",
        lambda: Firewall(story.world).forwards(OTHERS),
    )
    story.lives("The same question")
