"""Two containers of one network: one asks the other by the host's address, through docker-proxy.

The other container's UDP port is published. Docker's NAT leaves out what comes from the
container's own bridge, so docker-proxy, a real one, takes the question on every address of the
host; before Docker 28.0.0 its answer leaves with the bridge's address and is refused.

The redirect on the bridge repairs it while the advice waits: publish on one address, do without
the proxy, or update Docker. In the healthy twin the port was published on the uplink address.
"""

from __future__ import annotations

from remedies.lab.datagram import ask_uplink
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "udp-proxy-hairpin"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ("udp-redirect", "bind-advice")

PORT = 4000
POLICY = ("--policy", "docker-host")
OTHER = {4: "172.17.0.3", 6: "fd17:172::3"}
"""The container that publishes the port."""


def build(world: World) -> None:
    """Give the server's namespace a second life as a container, and publish its port."""
    container_host(world)
    at, other = addresses(world), OTHER[world.options.family]
    world.ip(
        "host",
        f"link add veth1 type veth peer name eth1 netns {world.namespace('server')}",
        "link set veth1 master docker0",
    )
    flag = "nodad" if world.options.family == 6 else ""
    world.ip("server", f"addr add {other}/{at.inner} dev eth1 {flag}")
    world.await_links(server=["eth1"], host=["veth1"])
    world.start("server", ["remedies.lab.udp_server", other, str(PORT)])
    everywhere = "0.0.0.0" if world.options.family == 4 else "::"  # noqa: S104 - the fault
    where = at.uplink if world.options.healthy else everywhere
    world.start("host", ["remedies.lab.docker_proxy", where, str(PORT), other, str(PORT)])


def traffic(world: World) -> TrafficOutcome:
    """Ask the published port of the host's uplink address twice, from the first container."""
    return ask_uplink(world, PORT)


def story(story: Story) -> None:
    """Show the refused answer, prove whose it is, redirect, and go back."""
    other = OTHER[story.world.options.family]
    before = story.dump()
    story.dies("A container asks its neighbour by the host's address")
    story.scan("The cause, proven")
    story.command("What to do about it", "plan", says=(FIXES[1], other, "28.0.0"))
    story.unchanged("Looking changed nothing", before)
    story.command(
        "The redirect, while containers ask",
        *(*POLICY, "apply", "--yes"),
        says=(FIXES[0], f"{CONDITION}: was {VERDICT}, now mitigated"),
        during=True,
    )
    story.lives("The same question")
    story.command("Undo it", "rollback", "--yes")
    story.dies("Without the redirect a new client fails again")
    story.unchanged("The host is what it was", before)


def look(world: World) -> tuple[str, ...]:
    """Return the flows, the proxy and its socket."""
    enter = " ".join(world.entering("host"))
    return (f"{enter} conntrack -L -p udp", f"{enter} ss -ulnp", "pgrep -a docker-proxy")
