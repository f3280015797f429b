"""A question to one address and its answer from another."""

from __future__ import annotations

from typing import Optional

from remedies.report.evidence import Interfaces, carrier, flow, value
from remedies.report.pictures.shapes import Path, Stop, Walk, link, process
from remedies.report.record import Judgement


def draw(judgement: Judgement, interfaces: Interfaces) -> Optional[Path]:
    """Draw a question to one address and its answer from another."""
    asked, answered = flow(value(judgement, "request")[0]), flow(value(judgement, "reply")[0])
    if not (asked and answered):
        return None
    client, wanted = asked
    source, _ = answered
    bound = value(judgement, "local address")[0] or judgement.subject
    stops = (
        Stop("Client", (str(client),), "client"),
        link(carrier(source.address, interfaces), str(source), "the answer leaves from here"),
        link(carrier(wanted.address, interfaces), str(wanted), "the client asked this address"),
        Stop("Server", (bound, *process(judgement)), "server"),
    )
    walks = (
        Walk(0, 3, f"The client asks {wanted}.", "good"),
        Walk(
            3,
            0,
            f"The answer leaves from {source}. The client's connected socket expects {wanted} "
            "and takes nothing else: the answer dies there.",
            "lost",
        ),
    )
    summary = f"{client} asks {wanted} and is answered from {source}: the answer dies at the client"
    return Path(summary, stops, walks)
