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

from remedies.lab import datagram
from remedies.lab.story import Story
from remedies.lab.topology import container_host
from remedies.lab.world import World

CONDITION = "udp-reply-source"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ("udp-redirect", "bind-advice")

PORT = datagram.PORT

traffic = datagram.ask_uplink
look = datagram.look
POLICY = ("--policy", "docker-host")


def build(world: World) -> None:
    """Start the server on every address of both IP versions."""
    container_host(world)
    if world.options.healthy:
        world.start("host", ["remedies.lab.pktinfo_server", str(PORT)])
    else:
        world.start("host", ["remedies.lab.udp_server", "::", str(PORT)])


def story(story: Story) -> None:
    """Show the refused answer, prove it, redirect, and go back."""
    before = story.dump()
    story.dies("A container's question to its host is answered from the wrong address")
    story.scan("The cause, proven")
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
