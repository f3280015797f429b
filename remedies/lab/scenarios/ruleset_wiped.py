"""Containers reach nothing beyond their host: somebody flushed the rules that hide them.

A container has asked a server outside, behind a NAT rule. Then the ruleset is flushed, as
nftables.service or a script does: nft's whole, or of iptables the table nat alone.

In the healthy twin nobody flushes it.
"""

from __future__ import annotations

from remedies.errors import RemedyError
from remedies.lab import datagram
from remedies.lab.firewall import Firewall
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "ruleset-wiped"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ()

TIMEOUT = "net.netfilter.nf_conntrack_udp_timeout"

look = datagram.look


def build(world: World) -> None:
    """Ask once through NAT, and flush it."""
    container_host(world)
    at = addresses(world)
    world.sysctl("host", TIMEOUT, "600")  # the flow of before is there however slow we are
    world.start("server", ["remedies.lab.udp_server", at.server, str(datagram.PORT)])
    with world.wanted(alive=True):
        before = traffic(world)
    if not before.alive:
        raise RemedyError(f"NAT does not work: {before.detail}")
    if not world.options.healthy:
        Firewall(world).flush()


def traffic(world: World) -> TrafficOutcome:
    """Ask the server outside from the container."""
    at = addresses(world)
    return datagram.keep_asking(world, "client", at.family, at.server, datagram.PORT)


def story(story: Story) -> None:
    """Show that nothing comes back, and that it does once the rule is made again."""
    story.fault("A container asks a server outside", "The network without its rule")
    at = addresses(story.world)
    story.person(
        "A person has the rules made again",
        lambda: Firewall(story.world).masquerade(at.subnet, "docker0"),
    )
    story.lives("The same question")
