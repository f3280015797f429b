"""A container's question that NAT leaves to docker-proxy, and the proxy's answer."""

from __future__ import annotations

from typing import Optional

from remedies.report.evidence import Interfaces, PathEnd
from remedies.report.pictures import udp_reply_source
from remedies.report.pictures.shapes import Path, Stop, Walk
from remedies.report.record import Judgement


def draw(judgement: Judgement, interfaces: Interfaces) -> Optional[Path]:
    """Draw a container's question that NAT leaves to docker-proxy, and the proxy's answer."""
    drawn = udp_reply_source.draw(judgement, interfaces)
    inside = judgement.details.get("container_address", "")
    if drawn is None or not inside:
        return drawn
    name = judgement.details.get("container_name") or judgement.details.get("container") or ""
    client, bridge, host, proxy = drawn.stops
    ask, lost = drawn.walks
    port = judgement.details.get("container_port", "")
    served = str(PathEnd(inside, port)) if port else inside
    stops = (
        client,
        bridge,
        host,
        Stop("docker-proxy", proxy.lines[:1], "nat"),
        Stop("Container", (served, *([name] if name else [])), "server"),
    )
    label = (
        f"{ask.label} Docker's NAT rules leave out the bridge it comes from, so docker-proxy "
        f"takes it and asks {served}."
    )
    walks = (Walk(0, 4, label, "good"), Walk(3, 0, lost.label, "lost"))
    return Path(f"{drawn.summary}. The container {served} answers by docker-proxy", stops, walks)
