"""A program opens a connection for each request, and soon it cannot open another one.

Its local ports towards the service are all in TIME_WAIT, where each stays for a minute after its
connection was closed: connect says "Cannot assign requested address". Nothing is dropped and
nothing counts it. The host's range of local ports is small, so that few connections suffice.

In the healthy twin the range is ten times as large.
"""

from __future__ import annotations

import errno
import socket

from remedies.lab import required
from remedies.lab.story import Story
from remedies.lab.topology import addresses, uplink
from remedies.lab.world import DEADLINE, TrafficOutcome, World

CONDITION = "local-port-exhaustion"
VERDICT = "active"
HEALTHY = "absent"
FIXES = ("tcp-tw-reuse",)

PORT = 8080
PORTS = 60
_FIRST = 50000


def build(world: World) -> None:
    """Start a service outside, and use up the host's local ports towards it."""
    uplink(world)
    last = _FIRST + (10 if world.options.healthy else 1) * PORTS - 1
    world.sysctl("host", "net.ipv4.ip_local_port_range", f"{_FIRST} {last}")
    world.start(
        "server", ["remedies.lab.greeter", addresses(world).server, str(PORT), "64", "last"]
    )
    requests(world)


def requests(world: World) -> None:
    """Open and close connections until there is no local port, and no more than twice as many.

    One for each port need not be enough: a FIN sent a second time on a busy host may meet no socket
    at the service any more, and the RST that answers it ends a TIME_WAIT (RFC 1337; Linux's
    tcp_rfc1337 is off).
    """
    for _ in range(2 * PORTS):
        if not traffic(world).alive:
            return


def traffic(world: World) -> TrafficOutcome:
    """Make one request from the host; closed here first, its port is in TIME_WAIT then."""
    at = addresses(world)
    with world.socket("host", at.family, socket.SOCK_STREAM) as client:
        client.settimeout(DEADLINE)
        try:
            client.connect((at.server, PORT))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            return TrafficOutcome(False, f"connect: {error.strerror}")
        greeting = client.recv(64)
    return TrafficOutcome(bool(greeting), "connected, and greeted")


def story(story: Story) -> None:
    """Show the error, its cause, its fix and the way back."""
    world = story.world
    before = story.dump()
    story.dies("A program on the host asks a service outside")
    story.scan("The cause")
    policy = required.fixing(world, CONDITION, "tcp-tw-reuse", since=VERDICT)
    story.command(
        "The fix",
        *("--policy", policy, "apply", "--yes"),
        says=("tcp-tw-reuse", "was active, now mitigated"),
    )
    story.lives("The same request")
    story.command("Undo it", "--policy", policy, "rollback", "--yes")
    story.person("The program goes on", lambda: requests(world))
    story.dies("Without the fix it fails again")
    story.unchanged("The host is what it was", before)


def look(world: World) -> tuple[str, ...]:
    """Return what shows the ports in TIME_WAIT."""
    return (f"{' '.join(world.entering('host'))} ss -tan state time-wait",)
