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
    uplink(world)
    world.ip(
        "host",
        "link add docker0 type bridge",
        f"addr add {at.bridge}/{at.inner} dev docker0 {_flag(world)}",
    )
    container(world, "docker0")
    key = "net.ipv4.ip_forward" if world.options.family == 4 else "net.ipv6.conf.all.forwarding"
    world.sysctl("host", key, "1")
    if nat:
        Firewall(world).masquerade(at.subnet, "docker0")


def uplink(world: World) -> None:
    """Join host and server."""
    at, flag = addresses(world), _flag(world)
    if flag:
        for role in ("client", "host", "server"):
            world.sysctl(role, "net.ipv6.conf.default.accept_dad", "0")
    world.ip(
        "host",
        f"link add eth0 type veth peer name eth0 netns {world.namespace('server')}",
        f"addr add {at.uplink}/{at.outer} dev eth0 {flag}",
    )
    world.ip("server", f"addr add {at.server}/{at.outer} dev eth0 {flag}")
    world.await_links(server=["eth0"], host=["eth0"])


def container(world: World, bridge: str) -> None:
    """Plug the client into a bridge of the host's, by which it reaches everything else."""
    at = addresses(world)
    world.ip(
        "host",
        f"link add veth0 type veth peer name eth0 netns {world.namespace('client')}",
        f"link set veth0 master {bridge}",
    )
    world.ip("client", f"addr add {at.client}/{at.inner} dev eth0 {_flag(world)}")
    world.await_links(client=["eth0"], host=["veth0", bridge])
    # A router advertisement may have been there before us.
    world.ip("client", f"route replace default via {at.bridge}")


def _flag(world: World) -> str:
    """Return what lets no address be tentative for a second: no duplicate address detection.

    Link-local addresses stay: a forwarding host solicits its neighbours from them
    (net/ipv6/ndisc.c).
    """
    return "nodad" if world.options.family == 6 else ""
