"""A service that listens on 127.0.0.1 alone answers a machine of the network.

A link of the host takes packets for 127.0.0.0/8, as kube-proxy sets it up for every link. A
neighbour sends to 127.0.0.1 by way of the host and holds connections to the service.

In the healthy twin the setting is as the kernel has it.
"""

from __future__ import annotations

import socket

from remedies.lab import required
from remedies.lab.story import Story
from remedies.lab.topology import container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "route-localnet-exposure"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ("loopback-drop",)

PORT, LOOPBACK = 10255, "127.0.0.1"
HOST, PEER = "10.22.0.99", "10.22.0.1"
"""The loopback's addresses of IPv6 are never routed: this is of IPv4 alone, in any world."""
PATIENCE = 0.3
SWITCH = "net.ipv4.conf.eth1.route_localnet"


def build(world: World) -> None:
    """Join host and server once more; open the loopback there (healthy: leave it closed)."""
    container_host(world)
    world.ip(
        "host",
        "link set lo up",
        f"link add eth1 type veth peer name eth1 netns {world.namespace('server')}",
        f"addr add {HOST}/24 dev eth1",
    )
    world.ip("server", f"addr add {PEER}/24 dev eth1")
    world.await_links(server=["eth1"], host=["eth1"])
    world.sysctl("server", SWITCH, "1")
    world.ip(  # what is its own is never sent anywhere
        "server", f"addr del {LOOPBACK}/8 dev lo", f"route add {LOOPBACK}/32 via {HOST} dev eth1"
    )
    world.start("host", ["remedies.lab.taker", LOOPBACK, str(PORT), "1000"])
    if not world.options.healthy:
        world.sysctl("host", SWITCH, "1")
    world.start("server", ["remedies.lab.notifier", "subscribe", LOOPBACK, str(PORT), "3"])


def traffic(world: World) -> TrafficOutcome:
    """Connect to the service from outside; alive where the host keeps it to itself."""
    with world.socket("server", socket.AF_INET, socket.SOCK_STREAM) as other:
        other.settimeout(world.patience(PATIENCE, alive=False))
        try:
            other.connect((LOOPBACK, PORT))
        except OSError as error:
            return TrafficOutcome(True, f"{PEER} does not reach the loopback: {error}")
    return TrafficOutcome(False, f"{PEER} reached {LOOPBACK}:{PORT} of the host")


def story(story: Story) -> None:
    """Show the neighbour inside, name the setting, keep it out, and let it in again."""
    before = story.fault("A neighbour asks for what is the host's own", "The service and the link")
    story.heals(
        FIXES[0],
        before=before,
        again="The neighbour once more",
        back="Without the fix it is inside again",
        policy=("--policy", required.fixing(story.world, CONDITION, FIXES[0])),
    )


def look(world: World) -> tuple[str, ...]:
    """Return the commands that show the setting and who is connected."""
    enter = " ".join(world.entering("host"))
    return (f"{enter} sysctl {SWITCH}", f"{enter} ss -tn src {LOOPBACK}")
