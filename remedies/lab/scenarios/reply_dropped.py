"""The host's own resolver does not answer any more, since a VPN's firewall rules are there.

The rules drop what comes from the VPN's address range by any other link, and the resolver has an
address of that range. They stand before the rule that accepts established connections, and so the
answers to the host's own questions are dropped.

In the healthy twin that rule stands first.
"""

from __future__ import annotations

from remedies.lab import datagram
from remedies.lab.firewall import Firewall
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "reply-dropped"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ()

PORT = 53
RANGES = {4: "10.21.0.0/16", 6: "fd10:21::/32"}
"""The VPN's; the server's address lies in it."""

look = datagram.look


def build(world: World) -> None:
    """Start the resolver; write the VPN's rules before the accept (healthy: behind it)."""
    container_host(world)
    at = addresses(world)
    world.start("server", ["remedies.lab.udp_server", at.server, str(PORT)])
    rules = ("drop", "accept") if not world.options.healthy else ("accept", "drop")
    Firewall(world).drops_range(RANGES[world.options.family], rules)


def traffic(world: World) -> TrafficOutcome:
    """Ask the resolver from the host."""
    at = addresses(world)
    return datagram.keep_asking(world, "host", at.family, at.server, PORT)


def story(story: Story) -> None:
    """Show the silence, name the rule, and put what accepts answers before it."""
    story.fault("The host asks its resolver", "The answers are there, and a rule drops them")
    world = story.world
    story.person(
        "Who wrote the rules accepts answers first",
        lambda: Firewall(world).drops_range(
            RANGES[world.options.family], ("accept", "drop"), again=True
        ),
    )
    story.lives("The same question")
