"""A datagram for an address whose socket has moved to another one."""

from __future__ import annotations

from typing import Optional

from remedies.report.evidence import Interfaces, carrier, flow, socket, value, values
from remedies.report.pictures.shapes import Path, Stop, Walk, between, link, process
from remedies.report.record import Judgement


def draw(judgement: Judgement, interfaces: Interfaces) -> Optional[Path]:
    """Draw a datagram for an address whose socket has moved to another one."""
    asked = flow(value(judgement, "request")[0])
    sockets = [pair for text, _ in values(judgement, "connected") if (pair := socket(text))]
    if asked is None or not sockets:
        return None
    client, wanted = asked
    local, peer = next((pair for pair in sockets if pair[1] == client), sockets[0])
    stops = (
        Stop("Client", (str(client),), "client"),
        *between(client.address, interfaces),
        link(carrier(wanted.address, interfaces), str(wanted), "the client asks this address"),
        Stop("Server", (str(local), f"connected to {peer}", *process(judgement)), "server"),
    )
    last = len(stops) - 1
    walks = (
        Walk(
            0,
            last,
            f"The client's first datagram to {wanted} reaches the server, which connects its "
            f"socket to {peer}: its own address is {local} from then on.",
            "good",
        ),
        Walk(
            0,
            last - 1,
            f"The client's next datagram to {wanted} finds no socket of that address and dies "
            "at the host.",
            "lost",
        ),
    )
    summary = (
        f"{client} asks {wanted}, where no socket is left since the server connected as {local}: "
        "its datagrams die at the host"
    )
    return Path(summary, stops, walks)
