"""A client's request hangs: the host's firewall takes its segments for INVALID, and drops them.

The client sits behind a box that rewrites sequence numbers and forgets SACK blocks, so its request
carries blocks 900 MB off. The server's TCP ignores such blocks; conntrack calls the segment INVALID
("ACK is over the upper bound"), and the firewall of the host drops it whenever it is sent again.

In the healthy twin the box leaves SACK alone. Strays that belong to no connection arrive as well:
the firewall drops them rightly, and nobody is accused.
"""

from __future__ import annotations

import socket

from remedies.lab.firewall import Firewall
from remedies.lab.renumbered import EVERY, RenumberedRequest
from remedies.lab.scenarios import tcp_invalid_reset
from remedies.lab.segment import RST, Position, forge
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "tcp-invalid-stall"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ("tcp-be-liberal",)

PORT = 8080
_OFF = 900_000_000
_TRIES = 4
_STRAYS = 5

look = tcp_invalid_reset.look


def build(world: World) -> None:
    """Put a stateful firewall in front of the host's own service, and a client that asks on."""
    container_host(world, nat=False)
    Firewall(world).stateful(PORT)
    at, off = addresses(world), 0 if world.options.healthy else _OFF
    world.start("host", ["remedies.lab.renumbered", "serve", at.uplink, str(PORT)])
    world.start("server", ["remedies.lab.renumbered", "ask", at.uplink, str(PORT), str(off)])


def traffic(world: World) -> TrafficOutcome:
    """Ask the host's service on one more connection; alive where the request arrives."""
    at = addresses(world)
    request = RenumberedRequest(
        lambda kind, protocol: world.socket("server", at.family, kind, protocol),
        (at.uplink, PORT),
        0 if world.options.healthy else _OFF,
    )
    try:
        if world.options.healthy:
            _strays(world)
        for number in range(1, _TRIES + 1):
            request.send()
            if request.arrived(world.patience(EVERY)):
                return TrafficOutcome(True, f"the request arrived at attempt {number}")
    finally:
        request.close()
    return TrafficOutcome(False, f"the request was sent {_TRIES} times and never arrived")


def _strays(world: World) -> None:
    """Send resets of connections that nobody has: conntrack calls each INVALID."""
    at = addresses(world)
    with world.socket("server", at.family, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        for port in range(30000, 30000 + _STRAYS):
            stray = forge((at.server, port), (at.uplink, PORT), Position(1, 1), b"", flags=RST)
            raw.sendto(stray, (at.uplink, 0))


def story(story: Story) -> None:
    """Show the hang and the rule, let conntrack pass the segment, and go back."""
    before = story.fault("A request from outside hangs", "The rule, proven while it drops")
    story.heals(
        FIXES[0],
        before=before,
        again="The same request",
        back="Without the fix it hangs again",
    )
