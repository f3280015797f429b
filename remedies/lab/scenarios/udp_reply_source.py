"""A container asks a UDP service of its host, and the answer comes from the wrong address.

The server is bound to every address. A container's client, connected to the host's uplink
address, asks; the server answers without saying from where, so the kernel takes the address of
the way out: the bridge's. The client's kernel knows no such conversation and refuses the answer
with "port unreachable". Connection tracking is left with two flows that mirror each other,
neither with a reply.

No rule on the host is to blame, so what helps is advice to whoever runs the server: bind the
address that clients use. The lab does that and asks again. In the healthy twin the server was
bound so from the start.
"""

from __future__ import annotations

from remedies.lab import datagram
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import World

CONDITION = "udp-reply-source"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ("bind-advice",)

PORT = datagram.PORT

traffic = datagram.ask_uplink
look = datagram.look


def build(world: World) -> None:
    """Start the server on the container host, on every address or (healthy) on one."""
    container_host(world)
    everywhere = "0.0.0.0" if world.options.family == 4 else "::"  # noqa: S104 - the fault
    _serve(world, addresses(world).uplink if world.options.healthy else everywhere)


def _serve(world: World, address: str) -> None:
    world.start("host", ["remedies.lab.udp_server", address, str(PORT)])


def story(story: Story) -> None:
    """Show the refused answer, prove it, take the advice, and ask again."""
    world = story.world
    address = addresses(world).uplink

    def take_advice() -> None:
        world.stop_all()
        _serve(world, address)

    before = story.dump()
    story.dies("A container's question to its host is answered from the wrong address")
    story.scan("The cause, proven")
    story.command("What to do about it", "plan", says=(*FIXES, address))
    story.unchanged("Looking changed nothing", before)
    story.person(f"The server's owner takes the advice: bind {address}", take_advice)
    story.lives("The same question")
    story.unchanged("The host's rules were never touched", before)
