"""A rule that saves connection tracking for UDP 5060 kills the published service behind it.

A container publishes a UDP service on the host's address, port 5060, by destination NAT.
Somebody reads that SIP does not need connection tracking and adds ``notrack`` for port 5060.
NAT needs connection tracking: from now on the datagrams stay addressed to the host, where no
socket has the port, and are refused.

The rule is somebody else's, so removing it is a person's act. As a fix of our own, ``notrack``
is refused where NAT could match the same traffic, and applied (and rolled back) where not.
In the healthy twin the rule stands beside the NAT: for a service of the host itself, and for that
service's address and port alone.
"""

from __future__ import annotations

from remedies.lab import required
from remedies.lab.datagram import ask
from remedies.lab.firewall import Firewall
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "notrack-breaks-nat"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ()

PORT = 5060
BESIDE = 5070
"""A port of the host itself: with its address, nothing that NAT could match."""
REFUSED = 8
"""Exit code: policy wants something that would do harm."""


def build(world: World) -> None:
    """Publish the container's service, and add the rule that breaks it (healthy: does not)."""
    container_host(world)
    for key in ("net.ipv4.icmp_ratelimit", "net.ipv6.icmp.ratelimit"):
        world.sysctl("host", key, "0")  # else a client waits, once some datagrams were refused
    at = addresses(world)
    firewall = Firewall(world)
    firewall.publish(at.uplink, PORT, at.client)
    if world.options.healthy:
        firewall.notrack(BESIDE, at.uplink)
    else:
        firewall.notrack(PORT)
    world.start("client", ["remedies.lab.udp_server", at.client, str(PORT)])


def traffic(world: World) -> TrafficOutcome:
    """Ask the published service twice, from outside."""
    at = addresses(world)
    return ask(world, "server", at.family, at.uplink, PORT)


def story(story: Story) -> None:
    """Show the refusal, prove it, remove the rule, and try our own notrack both ways."""
    world = story.world
    story.dies("The published service refuses")
    story.scan("The cause, proven by a datagram")
    story.person(
        f"The owner of the rule 'udp dport {PORT} notrack' removes it",
        lambda: Firewall(world).track_again(PORT),
    )
    story.lives("The same question")

    before = story.dump()
    uplink = addresses(world).uplink
    overlapping = required.notrack(world, "overlapping", uplink, PORT)
    story.command(
        "Our own notrack there: refused, naming the NAT rule in the way",
        *("--policy", overlapping, "apply", "--yes"),
        code=REFUSED,
        says=("notrack refused", *Firewall(world).published(PORT)),
    )
    story.unchanged("A refusal changes nothing", before)
    beside = required.notrack(world, "beside", uplink, BESIDE)
    story.command(
        f"Our own notrack beside it, for port {BESIDE}: applied",
        *("--policy", beside, "apply", "--yes"),
        says=("notrack",),
    )
    story.lives("The published service still answers")
    story.command("Undo it", "--policy", beside, "rollback", "--yes")
    story.unchanged("The host is what it was", before)


def look(world: World) -> tuple[str, ...]:
    """Return the rules the fault lies in."""
    enter = " ".join(world.entering("host"))
    return (f"{enter} nft list ruleset", f"{enter} conntrack -L -p udp")
