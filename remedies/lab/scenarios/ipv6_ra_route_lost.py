"""The host loses its IPv6 default route when somebody switches forwarding on for containers.

A router outside announces itself, and the host has learned its address and its default route from
it. Since forwarding is on, the host listens to no announcement any more.

In the healthy twin the uplink listens to routers although it forwards.
"""

from __future__ import annotations

import select
import socket
import time

from remedies.errors import RemedyError
from remedies.lab import datagram
from remedies.lab.story import Story
from remedies.lab.topology import uplink
from remedies.lab.world import DEADLINE, TrafficOutcome, World

CONDITION = "ipv6-ra-route-lost"
VERDICT = "active"
HEALTHY = "absent"
FIXES = ("accept-router",)

PREFIX, BEYOND = "fd10:77::", "fd10:99::1"
"""What the router announces, and a server that only the default route leads to. IPv6 alone is
looked at, whatever the world's family."""
ACCEPT = "net.ipv6.conf.eth0.accept_ra"

look = datagram.look


def build(world: World) -> None:
    """Let the host learn its route; then switch forwarding on (healthy: and go on listening)."""
    for role in ("host", "server"):
        world.sysctl(role, "net.ipv6.conf.default.accept_dad", "0")
    uplink(world)
    world.ip("server", f"addr add {PREFIX}1/64 dev eth0 nodad", f"addr add {BEYOND}/128 dev lo")
    world.sysctl("host", ACCEPT, "2" if world.options.healthy else "1")
    world.start("server", ["remedies.lab.udp_server", BEYOND, str(datagram.PORT)])
    world.start("server", ["remedies.lab.router", "eth0", PREFIX])
    until = time.monotonic() + DEADLINE
    while "default" not in world.run("host", ["ip", "-6", "route"]):
        if time.monotonic() > until:
            raise RemedyError("the host learns no default route")
        select.select([], [], [], datagram.BEAT)
    world.sysctl("host", "net.ipv6.conf.all.forwarding", "1")


def traffic(world: World) -> TrafficOutcome:
    """Ask a server beyond the router, from the host."""
    return datagram.keep_asking(world, "host", socket.AF_INET6, BEYOND, datagram.PORT)


def story(story: Story) -> None:
    """Show the fault, its fix, and the way back."""
    story.dies("The host asks a server beyond its router")
    before = story.dump()
    story.scan("The cause")
    story.command(
        "The fix",
        *("--policy", "docker-host", "apply", "--yes"),
        says=("accept-router", "ipv6-ra-route-lost: was active, now mitigated"),
    )
    story.lives("The same question, after the next announcement")
    story.command("Undo it", "rollback", "--yes")
    story.unchanged("The host is what it was", before)
