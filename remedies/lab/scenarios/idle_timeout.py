"""A connection that is only idle dies when its server speaks: conntrack has forgotten it.

Clients in a container wait for a server that speaks first, through the host's NAT. The host's
time-out for established connections was lowered to a second. When the server speaks, NAT does not
know the connection any more: the segment is addressed to the host itself, and the host answers it
with a reset. The fix for segments outside the window is no help, and does not hide it.

The healthy twin has the kernel's own time-out of five days.
"""

from __future__ import annotations

import socket

from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "idle-timeout"
VERDICT = "active"
HEALTHY = "absent"
FIXES = ()

PORT = 5432
PAUSE = 3
"""Seconds until the server speaks: conntrack ends an entry up to a second late."""
ESTABLISHED = "net.netfilter.nf_conntrack_tcp_timeout_established"
DEFAULT = "432000"


def build(world: World) -> None:
    """Wire the container host, its server and clients that wait for it."""
    container_host(world)
    at = addresses(world)
    world.sysctl("host", ESTABLISHED, DEFAULT if world.options.healthy else "1")
    for role, name in (("server", "serve"), ("client", "subscribe")):
        world.start(role, ["remedies.lab.notifier", name, at.server, str(PORT), str(PAUSE)])


def traffic(world: World) -> TrafficOutcome:
    """Wait for the server on one more connection."""
    at = addresses(world)
    with world.socket("client", at.family, socket.SOCK_STREAM) as client:
        client.settimeout(PAUSE + world.patience(2))
        try:
            client.connect((at.server, PORT))
            heard = client.recv(10)
        except OSError as error:
            return TrafficOutcome(False, f"nothing from the server: {error.strerror or error}")
    return TrafficOutcome(heard == b"notice", f"{len(heard)} bytes from the server")


def story(story: Story) -> None:
    """Show the silence, name the time-out, and raise it."""
    before = story.dump()
    story.dies("A container waits for its server")
    story.scan("The cause, while it happens")
    story.command(
        "The fix for another fault is applied, and does not hide this one",
        *("apply", "--yes"),
        says=(f"{ESTABLISHED} is 1 s (kernel default {DEFAULT} s",),
    )
    story.command("So the host is not well", "verify", code=2, says=(f"active {CONDITION}",))
    story.command("Undo it", "rollback", "--yes")
    story.unchanged("The host is what it was", before)
    story.person(
        f"The owner of {ESTABLISHED} sets the kernel's default again",
        lambda: story.world.sysctl("host", ESTABLISHED, DEFAULT),
    )
    story.lives("The next container")


def look(world: World) -> tuple[str, ...]:
    """Return the table that forgets."""
    return (f"{' '.join(world.entering('host'))} conntrack -L -p tcp",)
