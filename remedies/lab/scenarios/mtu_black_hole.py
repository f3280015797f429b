"""Uploads from a container hang: the way out carries less, and the container is not told.

The host's uplink has an MTU of 1400, as behind a tunnel; the container's link has 1500. The host
drops what is too big and says so by ICMP, and its own firewall drops that.

In the healthy twin the links are the same, and the firewall lets the message by.
"""

from __future__ import annotations

import socket

from remedies.lab import required, taker
from remedies.lab.firewall import Firewall
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "mtu-black-hole"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ("clamp-mss",)

PORT = 8080
SIZE = 16_000
PATIENCE = 0.7
"""Seconds until an upload counts as hung: TCP has sent it three times by then, the last time after
0.6 s. What watches half a second beside one upload after another hears one of them."""
NARROW = 1400


def build(world: World) -> None:
    """Make the uplink narrow (only on the host's side: its peer offers a full MSS)."""
    container_host(world)
    world.ip("host", f"link set eth0 mtu {NARROW}")
    world.start("server", ["remedies.lab.taker", addresses(world).server, str(PORT), str(SIZE)])
    if not world.options.healthy:
        Firewall(world).keeps_sizes_secret()


def traffic(world: World) -> TrafficOutcome:
    """Upload from the container."""
    at = addresses(world)
    with world.socket("client", at.family, socket.SOCK_STREAM) as client:
        client.settimeout(world.patience(PATIENCE))
        try:
            client.connect((at.server, PORT))
            client.sendall(bytes(SIZE))
            alive = client.recv(16) == taker.ANSWER
        except OSError as error:
            return TrafficOutcome(False, f"{SIZE} octets to {at.server}: {error}")
    return TrafficOutcome(alive, f"{SIZE} octets to {at.server} were taken")


def story(story: Story) -> None:
    """Show the hang and the rule, the fix and the way back; then let the message by."""
    before = story.fault("A container uploads something", "The cause, and what lets the message by")
    story.heals(
        FIXES[0],
        before=before,
        again="The same upload, of a new connection",
        back="Without the fix it dies again",
        policy=("--policy", required.fixing(story.world, CONDITION, FIXES[0])),
        now="",  # an upload that was begun before may still be there
    )
    story.person(
        "A person lets the message by",
        lambda: Firewall(story.world).keeps_sizes_secret(again=True),
    )
    story.lives("The same upload")


def look(world: World) -> tuple[str, ...]:
    """Return the commands that show the links and what the host counted."""
    enter = " ".join(world.entering("host"))
    return (f"{enter} ip link show eth0", f"{enter} nstat -az IpFragFails")
