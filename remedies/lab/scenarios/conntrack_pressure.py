"""A busy UDP service fills the connection table, and nobody new gets through the host.

A SIP server of the host is asked by very many clients. It needs no NAT, yet each of its flows takes
an entry of the connection table. Once the table is full the kernel drops the first packet of every
new connection, whoever it is for: here a container that asks another service.

Taking the service out of connection tracking is for its owner to decide: ``notrack``, by
``require`` in a policy. Flows that are tracked already stay until they time out.

In the healthy twin the same service has a thousand flows.
"""

from __future__ import annotations

import contextlib
import select
import socket

from remedies.lab import datagram, flow_table, required
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "conntrack-pressure"
VERDICT = "active"
HEALTHY = "absent"
FIXES = ("notrack",)

QUESTIONS = 12
_APART = 0.1
"""Seconds between two questions."""
BUSY = 5060
FEW = 1000


def build(world: World) -> None:
    """Start the busy service and another one, and fill the table (healthy: a thousand flows)."""
    container_host(world)
    at = addresses(world)
    world.start("host", ["remedies.lab.udp_server", at.uplink, str(BUSY)])
    world.start("server", ["remedies.lab.udp_server", at.server, str(datagram.PORT)])
    flow_table.fill(world, at.uplink, BUSY, FEW if world.options.healthy else 0)


def traffic(world: World) -> TrafficOutcome:
    """Ask the server outside from the container, each time by a new flow, through NAT."""
    at = addresses(world)
    with contextlib.ExitStack() as stack:
        asked: list[socket.socket] = []
        while len(asked) < QUESTIONS:
            client = stack.enter_context(world.socket("client", at.family, socket.SOCK_DGRAM))
            client.sendto(b"question", (at.server, datagram.PORT))
            asked.append(client)
            if select.select(asked, [], [], _APART)[0]:
                return TrafficOutcome(True, f"answered at question {len(asked)}")
    return TrafficOutcome(False, f"none of {QUESTIONS} datagrams by new flows was answered")


def story(story: Story) -> None:
    """Show that nothing new passes, find why, take the service out of tracking, and undo that."""
    world = story.world
    at = addresses(world)
    story.dies("A container asks a server outside")
    story.command(
        "The cause, and what comes of it",
        "scan",
        code=2,
        says=(
            f"{VERDICT} {CONDITION}",
            "active conntrack-table-full",
            f"follows from {CONDITION}",
        ),
        during=True,
    )
    before = story.dump()
    policy = required.notrack(world, "sip", at.uplink, BUSY)
    story.command(
        "The busy service's owner takes it out of connection tracking",
        *("--policy", policy, "apply", "--yes"),
        says=("notrack", "Applied"),
    )
    story.person(
        "The flows that were tracked before end: the lab empties its own namespace's table",
        lambda: world.run("host", ["conntrack", "-F"]),
    )
    story.lives("The same question")
    story.command("Undo it", "--policy", policy, "rollback", "--yes")
    story.unchanged("The host is what it was", before)


def look(world: World) -> tuple[str, ...]:
    """Return what shows how full the table is, and with what."""
    enter = " ".join(world.entering("host"))
    return (f"{enter} sysctl {flow_table.COUNT} {flow_table.MAX}", f"{enter} conntrack -S")
