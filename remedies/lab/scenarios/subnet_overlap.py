"""A machine of the LAN is gone since a compose network with its addresses was made.

The host has a link to a LAN and a bridge whose subnet is a part of the LAN's. What the LAN has
there is looked for on the bridge, where nobody answers.

In the healthy twin the bridge has a subnet of its own.
"""

from __future__ import annotations

import socket

from remedies.lab import datagram
from remedies.lab.story import Story
from remedies.lab.topology import container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "subnet-overlap"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ()

BRIDGE, HOST, PEER = "br-app", "10.22.0.99", "10.22.0.1"
"""IPv4 whatever the world's family: what is asked of routes and links is the same."""
SHARED, OWN = "10.22.0.126/25", "10.23.0.126/25"

look = datagram.look


def build(world: World) -> None:
    """Join host and server once more, and make a bridge with a part of the link's addresses."""
    container_host(world)
    world.ip(
        "host",
        f"link add eth1 type veth peer name eth1 netns {world.namespace('server')}",
        f"addr add {HOST}/24 dev eth1",
        f"link add {BRIDGE} type bridge",
        f"link add veth1 type veth peer name eth1 netns {world.namespace('client')}",
        f"link set veth1 master {BRIDGE}",
    )
    world.ip("server", f"addr add {PEER}/24 dev eth1")
    world.await_links(server=["eth1"], client=["eth1"], host=["eth1", "veth1", BRIDGE])
    world.ip("host", f"addr add {OWN if world.options.healthy else SHARED} dev {BRIDGE}")
    for key, value in (("retrans_time_ms", "40"), ("mcast_solicit", "1")):  # nobody waits for 3 s
        world.sysctl("host", f"net.ipv4.neigh.{BRIDGE}.{key}", value)
    world.start("server", ["remedies.lab.udp_server", PEER, str(datagram.PORT)])


def traffic(world: World) -> TrafficOutcome:
    """Ask the machine of the LAN from the host."""
    return datagram.keep_asking(world, "host", socket.AF_INET, PEER, datagram.PORT)


def story(story: Story) -> None:
    """Show the silence, name both networks, and give one of them other addresses."""
    story.fault("The host asks a machine of the LAN", "Who has the addresses")
    world = story.world
    story.person(
        "A person gives the container network another subnet",
        lambda: world.ip("host", f"addr del {SHARED} dev {BRIDGE}", f"addr add {OWN} dev {BRIDGE}"),
    )
    story.lives("The same question")
