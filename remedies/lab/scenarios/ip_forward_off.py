"""A container reaches its host, and nothing beyond it: the host does not forward.

The host masquerades for its containers. Forwarding was on when they were started, and a hardening
script has switched it off since.

In the healthy twin it is on.
"""

from __future__ import annotations

from remedies.lab import datagram
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "ip-forward-off"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ("forward-links",)

look = datagram.look


def build(world: World) -> None:
    """Start a server outside; switch forwarding off (healthy: leave it on)."""
    container_host(world)
    at = addresses(world)
    world.ip("host", f"route replace default via {at.server}")
    world.start("server", ["remedies.lab.udp_server", at.server, str(datagram.PORT)])
    if not world.options.healthy:
        world.sysctl("host", _key(world), "0")


def traffic(world: World) -> TrafficOutcome:
    """Ask the server outside from the container."""
    at = addresses(world)
    return datagram.keep_asking(world, "client", at.family, at.server, datagram.PORT)


def story(story: Story) -> None:
    """Show the fault, its fix, and the way back; over IPv6 only a person can decide."""
    world = story.world
    before = story.dump()
    story.dies("A container asks a server outside")
    if world.options.family == 4:
        fixing = ("--policy", "docker-host")
        story.scan("The cause")
        story.heals(
            "forward-links",
            before=before,
            again="The same question",
            back="Without the fix it dies again",
            policy=fixing,
        )
        return
    story.scan("The cause")
    story.unchanged("Looking changed nothing", before)
    story.person("A person switches it on", lambda: world.sysctl("host", _key(world), "1"))
    story.lives("The same question")


def _key(world: World) -> str:
    return "net.ipv4.ip_forward" if world.options.family == 4 else "net.ipv6.conf.all.forwarding"
