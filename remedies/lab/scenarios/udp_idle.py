"""A call never comes through: conntrack has forgotten the phone's flow when the server speaks.

Clients in a container say a word to their server, through the host's NAT, and are silent. The
host's time-outs for UDP were lowered to a second. What the server sends after that begins a flow of
its own, to the host, where nobody has the port, and the client that speaks again has to take
another one, of which its server knows nothing.

The healthy twin has the kernel's own time-outs, of 30 and 120 seconds.
"""

from __future__ import annotations

import select

from remedies.lab import datagram
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "idle-timeout"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ()

PORT = 5060
PAUSE = 2
LIMITS = {
    "net.netfilter.nf_conntrack_udp_timeout": "30",
    "net.netfilter.nf_conntrack_udp_timeout_stream": "120",
}

look = datagram.look


def build(world: World) -> None:
    """Start the server and its clients; lower the time-outs (healthy: leave them)."""
    container_host(world)
    at = addresses(world)
    for key in ("net.ipv4.icmp_ratelimit", "net.ipv6.icmp.ratelimit"):
        world.sysctl("host", key, "0")
    for key, default in LIMITS.items():
        world.sysctl("host", key, default if world.options.healthy else "1")
    for role, name in (("server", "serve"), ("client", "call")):
        world.start(role, ["remedies.lab.late_voice", name, at.server, str(PORT), str(PAUSE)])


def traffic(world: World) -> TrafficOutcome:
    """Say a word as one more client, and wait for the server."""
    at = addresses(world)
    with datagram.client(world, "client", at.family) as client:
        client.connect((at.server, PORT))
        client.send(b"here")
        ready = select.select([client], [], [], PAUSE + world.patience(2))[0]
        heard = client.recv(10) if ready else b""
    return TrafficOutcome(heard == b"notice", "called" if heard else "not called")


def story(story: Story) -> None:
    """Show the silence, name the time-outs, and raise them."""
    story.fault("A phone waits for its call", "The cause, while it happens")
    story.person(
        "The owner of the time-outs sets the kernel's defaults again", lambda: _raise(story)
    )
    story.lives("The next phone")


def _raise(story: Story) -> None:
    """Set the kernel's own time-outs."""
    for key, default in LIMITS.items():
        story.world.sysctl("host", key, default)
