"""A server on ``[::]`` serves IPv4 too, and answers a container from the wrong address.

One socket takes both IP versions; IPv4 clients come to it in IPv4-mapped addresses, and their
flows are IPv4's. A container's client, connected to the host's uplink address, asks; the answer
leaves with the bridge's address and is refused.

The server cannot always be changed at once, so the host helps: a stateful redirect on the bridge
addresses the request to where the answer will come from, and conntrack turns it back. The stale
flows are deleted, so that clients recover with their next datagram. In the healthy twin the same
server asks for IP_PKTINFO and answers from the address it was asked on.
"""

from __future__ import annotations

from remedies.lab.datagram import ask
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Outcome, World

CONDITION = "udp-reply-source"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ("udp-redirect", "bind-advice")

PORT = 56789
POLICY = ("--policy", "docker-host")


def build(world: World) -> None:
    """Start the server on every address of both IP versions."""
    container_host(world)
    if world.options.healthy:
        world.start("host", ["remedies.lab.pktinfo_server", str(PORT)])
    else:
        world.start("host", ["remedies.lab.udp_server", "::", str(PORT)])


def traffic(world: World) -> Outcome:
    """Ask the host's uplink address twice, from the container."""
    at = addresses(world)
    return ask(world, "client", at.family, at.uplink, PORT)


def story(story: Story) -> None:
    """Show the refused answer, prove it, redirect, and go back."""
    before = story.dump()
    story.dies("A container's question to its host is answered from the wrong address")
    story.scan("The cause, proven", condition=CONDITION, verdict=VERDICT)
    story.command("What would change", *POLICY, "plan", says=(FIXES[0], "deletes the unreplied"))
    story.command(
        "The redirect, while clients ask",
        *(*POLICY, "apply", "--yes"),
        says=(f"{CONDITION}: was {VERDICT}, now mitigated",),
        during=True,
    )
    story.lives("The same question")
    fixed = story.dump()
    story.command("Once more", *POLICY, "apply", "--yes", says=("Nothing to do",))
    story.unchanged("Nothing was left to do", fixed)
    story.command("Undo it", "rollback", "--yes")
    story.dies("Without the redirect a new client fails again")
    story.unchanged("The host is what it was", before)


def look(world: World) -> tuple[str, ...]:
    """Return the flows and the socket the fault shows in."""
    enter = " ".join(world.entering("host"))
    return (f"{enter} conntrack -L -p udp", f"{enter} ss -ulnp")
