"""A segment that is not translated back, and the reset that answers it."""

from __future__ import annotations

from typing import Optional

from remedies.report.evidence import Interfaces, value, way
from remedies.report.pictures.shapes import Path, Stop, Walk, between
from remedies.report.record import Judgement


def draw(judgement: Judgement, interfaces: Interfaces) -> Optional[Path]:
    """Draw a segment that is not translated back, and the reset that answers it."""
    owner, note = value(judgement, "flow that owns it")
    asked, reply = way(owner), way(note)
    reset = way(value(judgement, "reset sent")[0])
    if not (asked and reply and reset):
        return None
    client, server = asked[0], reply[0]
    pairs = [p for p in ((client, reply[1]), (asked[1], server)) if p[0] != p[1]]
    rewritten = "; ".join(f"{one} becomes {other}" for one, other in pairs)
    lines = [line for one, other in pairs for line in (str(one), f"becomes {other}")]
    near = between(client.address, interfaces)
    # A server far off is reached by the interface whose address NAT lends.
    far = between(server.address, interfaces) or between(reply[1].address, interfaces)
    far = far if far != near else ()
    nat = 1 + len(near)
    stops = (
        Stop("Client", (str(client),), "client"),
        *near,
        Stop("NAT on this host", (*lines, value(judgement, "rule")[0]), "nat"),
        *far,
        Stop("Server", (str(server),), "server"),
    )
    last = len(stops) - 1
    from_client = reset[1] == client
    sender, shown = (0, asked[1]) if from_client else (last, reply[1])
    walks = (
        Walk(
            0,
            last,
            f"The connection {client} to {asked[1]} passes NAT: {rewritten}.",
            "good",
        ),
        Walk(
            sender,
            nat,
            f"A segment outside the TCP window arrives for {shown}. conntrack calls it INVALID, "
            "so NAT does not translate it, and it dies at the host.",
            "lost",
        ),
        Walk(
            nat,
            sender,
            f"The host has no such connection of its own and sends a reset {reset[0]} to "
            f"{reset[1]}. The connection is dead.",
            "harm",
        ),
    )
    summary = (
        f"Packets between {client} and {server}: a segment for {shown} is not translated at this "
        "host's NAT and dies there, and the host answers it with a reset"
    )
    return Path(summary, stops, walks)
