"""What somebody has sent is on its way for a moment, before another namespace tracks it."""

from __future__ import annotations

from waiting import eventually

from remedies.namespaces.netns import inside
from remedies.netlink import conntrack
from remedies.netlink.flow import Tuple
from remedies.netlink.socket import NETLINK_NETFILTER, Netlink


def await_flow(ns: str, protocol: str, way: Tuple) -> None:
    """Wait until a namespace has a flow: its neighbour may be asked for first, and answer late."""

    def there() -> bool:
        with inside(ns), Netlink(NETLINK_NETFILTER) as client:
            return conntrack.flow_by_tuple(client, protocol, way) is not None

    eventually(there, what=f"{ns} tracks no {protocol} {way}")
