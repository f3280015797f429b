"""One client is not answered since the host was given another address; new ones are.

A rule gave what the container sends a source address of the host. The host has another address now,
and its rule another one, while a client that never stops asking keeps its flow, and with it the
address that has left: what it sends leaves as that, and nobody answers for it when the answer
comes.

In the healthy twin the address and its rule are still there.
"""

from __future__ import annotations

import socket

from remedies.errors import RemedyError
from remedies.lab import datagram
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "stale-flow"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ("flush-stale-flow",)

PORT, CLIENT = 5060, 5062
"""The client asks from this port alone, as a SIP phone does."""

look = datagram.look


def build(world: World) -> None:
    """Have the client ask and be answered, and take its address away (healthy: leave it)."""
    container_host(world)
    at = addresses(world)
    six, old = at.family == socket.AF_INET6, departing(world)
    world.ip("host", f"addr add {old}/{at.outer} dev eth0{' nodad' if six else ''}")
    family = "ip6" if six else "ip"
    world.run("host", ["nft", "-f", "-"], (
        f"table {family} lab_source {{\n chain post {{\n"
        "  type nat hook postrouting priority srcnat - 1\n"
        f'  oifname "eth0" snat to {old}\n }}\n}}\n'
    ))  # fmt: skip
    world.start("server", ["remedies.lab.udp_server", at.server, str(PORT)])
    with world.wanted(alive=True):
        before = datagram.ask(world, "client", at.family, at.server, PORT, CLIENT)
    if not before.alive:
        raise RemedyError(f"not answered before: {before.detail}")
    if not world.options.healthy:
        world.run("host", ["nft", "delete", "table", family, "lab_source"])
        world.ip("host", f"addr del {old}/{at.outer} dev eth0")
        world.ip("server", "neigh flush dev eth0")


def departing(world: World) -> str:
    """Return the address that leaves."""
    return "fd10:21:17::77" if addresses(world).family == socket.AF_INET6 else "10.21.17.77"


def traffic(world: World) -> TrafficOutcome:
    """Ask the server outside from the client's port."""
    at = addresses(world)
    return datagram.keep_asking(world, "client", at.family, at.server, PORT, own=CLIENT)


def story(story: Story) -> None:
    """Show the silence and its cause, and end the one flow."""
    before = story.fault(
        "The client that has asked all the time", "The cause, and the command that ends it"
    )
    story.command(
        "The fix ends that flow, and nothing else",
        *("--policy", "docker-host", "apply", "--yes"),
        says=("flush-stale-flow", f"{CONDITION}: was proven, now absent"),
        during=True,
    )
    story.lives("The same client")
    story.command("Undo the rest: a flow is not put back", "rollback", "--yes")
    story.unchanged("The host is what it was", before)
