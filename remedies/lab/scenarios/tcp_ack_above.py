"""A segment acknowledges data that was never sent, and only luck keeps the connection alive.

The same container host as in tcp-invalid-reset. The stray segment's sequence number is right, but
it acknowledges 100 MB more than the client has sent, as a broken middlebox or a reused port can
make it. Connection tracking calls it INVALID, NAT is not undone, and the host answers with a reset
whose numbers come from that acknowledgment: they lie outside the server's window, so the server
ignores this one. The host has misspoken all the same, and the proof is the same.

The healthy twin carries an acknowledgment that is late instead (2 MB below the window): Linux
6.1 and later ignores it. On older kernels the twin carries nothing unusual.
"""

from __future__ import annotations

from remedies.lab.scenarios import tcp_invalid_reset
from remedies.lab.scenarios.tcp_invalid_reset import ABOVE, CONDITION, FIXES, HEALTHY, VERDICT
from remedies.lab.story import Story
from remedies.lab.world import TrafficOutcome, World

__all__ = ["CONDITION", "FIXES", "HEALTHY", "VERDICT", "build", "look", "story", "traffic"]

build = tcp_invalid_reset.build
look = tcp_invalid_reset.look


def traffic(world: World) -> TrafficOutcome:
    """Run one transfer with the segment that the world's options ask for in its middle."""
    if world.options.healthy:
        return tcp_invalid_reset.traffic(world)
    return tcp_invalid_reset.transfer(world, acknowledge=ABOVE)


def story(story: Story) -> None:
    """Show the reset that is survived, prove it, and drop the segment instead."""
    before = story.dump()
    story.lives("A transfer through NAT lives, and the host sends a reset into it")
    story.scan("The cause, proven while it happens")
    story.command(
        "The fix, while transfers go on",
        *("apply", "--yes"),
        says=(FIXES[0], f"{CONDITION}: was {VERDICT}, now mitigated"),
        during=True,
    )
    story.scan("No reset leaves any more", verdict="mitigated", code=0)
    story.command("Undo it", "rollback", "--yes")
    story.scan("And it is back")
    story.unchanged("The host is what it was", before)
