"""The world that every scenario so far happens in: a container host between two networks.

::

    client                  host                                server
    eth0 172.17.0.2  ---  docker0 172.17.0.1 | eth0 10.21.17.99  ---  eth0 10.21.17.1
                           masquerade for 172.17.0.0/16, except to docker0
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from remedies.lab.firewall import Firewall
from remedies.lab.world import World


@dataclass(frozen=True)
class Addresses:
    """The addresses of one family, and what they are written with."""

    family: socket.AddressFamily
    subnet: str
    client: str
    bridge: str
    """The host's address on docker0."""
    uplink: str
    """The host's address towards the server."""
    server: str
    inner: int
    """Prefix length on the container's side."""
    outer: int


_ADDRESSES = {
    4: Addresses(
        socket.AF_INET,
        "172.17.0.0/16",
        "172.17.0.2",
        "172.17.0.1",
        "10.21.17.99",
        "10.21.17.1",
        16,
        24,
    ),
    6: Addresses(
        socket.AF_INET6,
        "fd17:172::/64",
        "fd17:172::2",
        "fd17:172::1",
        "fd10:21:17::99",
        "fd10:21:17::1",
        64,
        64,
    ),
}


def addresses(world: World) -> Addresses:
    """Return the addresses of a world, by its family."""
    return _ADDRESSES[world.options.family]


def container_host(world: World, *, nat: bool = True) -> None:
    """Wire the three namespaces together, and with NAT hide the container's network."""
    at = addresses(world)
    client, server = world.namespace("client"), world.namespace("server")
    # No duplicate address detection, so that no address is tentative for a second. Link-local
    # addresses stay: a forwarding host solicits its neighbours from them (net/ipv6/ndisc.c).
    flag = ""
    if world.options.family == 6:
        flag = "nodad"
        for role in ("client", "host", "server"):
            world.sysctl(role, "net.ipv6.conf.default.accept_dad", "0")
    world.ip(
        "host",
        "link add docker0 type bridge",
        f"link add veth0 type veth peer name eth0 netns {client}",
        f"link add eth0 type veth peer name eth0 netns {server}",
        "link set veth0 master docker0",
        f"addr add {at.bridge}/{at.inner} dev docker0 {flag}",
        f"addr add {at.uplink}/{at.outer} dev eth0 {flag}",
    )
    world.ip("client", f"addr add {at.client}/{at.inner} dev eth0 {flag}")
    world.ip("server", f"addr add {at.server}/{at.outer} dev eth0 {flag}")
    world.await_links(client=["eth0"], server=["eth0"], host=["veth0", "docker0", "eth0"])
    world.ip("client", f"route add default via {at.bridge}")
    key = "net.ipv4.ip_forward" if world.options.family == 4 else "net.ipv6.conf.all.forwarding"
    world.sysctl("host", key, "1")
    if nat:
        Firewall(world).masquerade(at.subnet, "docker0")
