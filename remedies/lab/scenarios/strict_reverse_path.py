"""A server on the second link gets no requests: their answers would leave by the first one.

The host has two links to the network outside and one route to a client there, by the first. The
client asks the address on the second. The reverse path filter is strict on that link.

In the healthy twin the filter is loose.
"""

from __future__ import annotations

import socket

from remedies.lab import datagram, required
from remedies.lab.story import Story
from remedies.lab.topology import container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "strict-reverse-path"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ("loose-reverse-path",)

SECOND, PEER, CLIENT = "10.22.0.99", "10.22.0.1", "10.30.0.1"
"""The host's address on its second link, the other end's, and the client's. The filter is of IPv4
alone, whatever the world's family."""

look = datagram.look


def build(world: World) -> None:
    """Join host and server once more; make the filter strict there (healthy: loose)."""
    container_host(world)
    world.ip(
        "host",
        f"link add eth1 type veth peer name eth1 netns {world.namespace('server')}",
        f"addr add {SECOND}/24 dev eth1",
    )
    world.ip("server", f"addr add {PEER}/24 dev eth1", f"addr add {CLIENT}/32 dev lo")
    world.await_links(server=["eth1"], host=["eth1"])
    if world.options.family == 6:  # the way back needs an IPv4 one
        world.ip("host", "addr add 10.21.17.99/24 dev eth0")
        world.ip("server", "addr add 10.21.17.1/24 dev eth0")
    world.ip("host", f"route add {CLIENT}/32 via 10.21.17.1 dev eth0")
    for role, links in (("server", ("all", "eth0", "eth1")), ("host", ("all", "eth0", "docker0"))):
        for link in links:
            world.sysctl(role, f"net.ipv4.conf.{link}.rp_filter", "0")
    # Else it would ask for the host's MAC address in the client's name, and not be answered.
    world.sysctl("server", "net.ipv4.conf.all.arp_announce", "2")
    strict = "2" if world.options.healthy else "1"
    world.sysctl("host", "net.ipv4.conf.eth1.rp_filter", strict)
    world.start("host", ["remedies.lab.udp_server", SECOND, str(datagram.PORT)])


def traffic(world: World) -> TrafficOutcome:
    """Ask the address on the second link."""
    return datagram.keep_asking(world, "server", socket.AF_INET, SECOND, datagram.PORT, CLIENT)


def story(story: Story) -> None:
    """Show the fault, its fix, and the way back."""
    before = story.dump()
    story.dies("A client asks the address on the second link")
    story.scan("The cause")
    policy = required.fixing(story.world, CONDITION, FIXES[0])
    story.heals(
        "loose-reverse-path",
        before=before,
        again="The same question",
        back="Without the fix it dies again",
        policy=("--policy", policy),
    )
