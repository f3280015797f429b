"""A container's packets are dropped by a rule that iptables does not show.

iptables is iptables-nft here and hides the container's network. A rule of iptables-legacy, left by
a program that is gone, drops what comes from the container.

In the healthy twin the legacy table is there and has no rule.
"""

from __future__ import annotations

from remedies.lab import datagram
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "mixed-backends"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ()

_RULE = ("FORWARD", "-i", "docker0", "-o", "eth0", "-j", "DROP")

look = datagram.look


def build(world: World) -> None:
    """Start a server outside; write NAT with one variant and the drop with the other."""
    container_host(world, nat=False)
    at = addresses(world)
    world.start("server", ["remedies.lab.udp_server", at.server, str(datagram.PORT)])
    nat = ("POSTROUTING", "-s", at.subnet, "!", "-o", "docker0", "-j", "MASQUERADE")
    _iptables(world, "nft", "nat", "-A", *nat)
    _iptables(world, "nft", "filter", "-A", "FORWARD", "-i", "docker0", "-j", "ACCEPT")
    _iptables(world, "legacy", "filter", "-A", *_RULE)
    if world.options.healthy:
        _iptables(world, "legacy", "filter", "-D", *_RULE)


def traffic(world: World) -> TrafficOutcome:
    """Ask the server outside from the container."""
    at = addresses(world)
    return datagram.keep_asking(world, "client", at.family, at.server, datagram.PORT)


def story(story: Story) -> None:
    """Show the rule that is not seen, and that its removal by a person heals."""
    story.fault("A container asks a server outside", "The cause, and what shows it")
    story.person(
        "A person removes the rule that was left behind",
        lambda: _iptables(story.world, "legacy", "filter", "-D", *_RULE),
    )
    story.lives("The same question")


def _iptables(world: World, variant: str, table: str, *arguments: str) -> None:
    tool = "iptables" if world.options.family == 4 else "ip6tables"
    world.run("host", [f"{tool}-{variant}", "-w", "-t", table, *arguments])
