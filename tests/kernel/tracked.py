"""What conntrack knows of who has sent something: not yet for a moment, and not for ever."""

from __future__ import annotations

from waiting import eventually

from remedies.lab.world import World
from remedies.namespaces.netns import inside
from remedies.netlink import conntrack
from remedies.netlink.flow import Tuple
from remedies.netlink.socket import NETLINK_NETFILTER, Netlink


def remember(world: World) -> None:
    """Keep UDP flows of a world's host that have one direction, which end after 30 seconds.

    On a busy machine what a test does meanwhile takes longer.
    """
    world.sysctl("host", "net.netfilter.nf_conntrack_udp_timeout", "600")


def await_flow(ns: str, protocol: str, way: Tuple) -> None:
    """Wait until a namespace has a flow: its neighbour may be asked for first, and answer late."""

    def there() -> bool:
        with inside(ns), Netlink(NETLINK_NETFILTER) as client:
            return conntrack.flow_by_tuple(client, protocol, way) is not None

    eventually(there, what=f"{ns} tracks no {protocol} {way}")
