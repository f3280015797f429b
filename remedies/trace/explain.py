"""What a packet means, given the flow, the sockets and the kernel's reason. Pure.

Each function names the condition only where the packet proves it; see the conditions' own
docstrings for why.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Optional

from remedies.facts.process import Process
from remedies.netlink.flow import Flow, Tuple
from remedies.printable import at
from remedies.tap.lookups import owner
from remedies.trace.event import Meaning

_PROXY = "docker-proxy"


def who(process: Optional[Process]) -> str:
    """Return how a process is named in a sentence."""
    if process is None:
        return "a server"
    place = f" in container {process.container}" if process.container else ""
    place = place or (f" ({process.unit})" if process.unit else "")
    return f"{process.name}[{process.pid}]{place}"


def reset(
    way: Tuple,
    flow: Optional[Flow],
    local: Collection[str],
    reason: Optional[str],
    *,
    reasons_complete: bool,
    answers: Optional[bool] = None,
) -> Meaning:
    """Judge a reset that left ``way``; ``flow`` runs the segment that provoked it.

    The reset answers for a flow that it has no part in where NAT would have sent the segment on:
    to an end elsewhere, or to a local one while the kernel itself says NO_SOCKET. Where the
    kernel gives reasons for all its resets and gave none for this one, or where the packet itself
    shows that it is no answer of TCP's (``answers``), a firewall's REJECT sent it, which is
    somebody's will and no fault.
    """
    target = f"reset sent to {at(way.destination, way.destination_port)}"
    end = None if flow is None else owner(flow, way.turned)
    if end is None:
        return Meaning(f"{target} from {at(way.source, way.source_port)}")
    text = f"{target} for a flow that NAT owns for {end}"
    if (reason is None and reasons_complete) or (answers is False and end not in local):
        return Meaning(f"{text}; the kernel's TCP did not send it: a firewall's REJECT does that")
    if end in local and reason != "NO_SOCKET":
        return Meaning(f"{text}, which is here: its own program may have sent it")
    return Meaning(text, "tcp-invalid-reset")


def refused(
    way: Tuple, peer: str, protocol: str, request: Optional[Flow], process: Optional[Process]
) -> Meaning:
    """Judge a port unreachable that came from ``peer`` and quotes our datagram ``way``.

    ``request``: the unreplied flow by which the receiver had asked another local address.
    """
    sent = at(way.source, way.source_port)
    there = at(way.destination, way.destination_port)
    if request is None:
        return Meaning(f"{peer} refused {protocol} from {sent}: nothing takes it at {there}")
    asked = at(request.original.destination, request.original.destination_port)
    text = f"{there} asked {asked} and refused the answer, which {who(process)} sent from {sent}"
    if process is not None and process.name == _PROXY:
        return Meaning(text, "udp-proxy-hairpin")
    return Meaning(text, "udp-reply-source")


def refusal(
    way: Tuple,
    peer: str,
    protocol: str,
    connected: Optional[str],
    process: Optional[Process],
    local: Collection[str],
) -> Meaning:
    """Judge a port unreachable that was sent to ``peer`` and quotes its datagram ``way``.

    ``connected``: another local address on which a socket is connected to that very client by
    the same ports.
    """
    here = at(way.destination, way.destination_port)
    if connected is not None:
        mine = at(connected, way.destination_port)
        return Meaning(
            f"{at(way.source, way.source_port)} asked {here} and was refused: {who(process)} "
            f"has connected its socket to it from {mine}",
            "udp-connected-server",
        )
    if way.destination not in local:
        return Meaning(f"refused {protocol} of {peer} to {here} on the way: a firewall's REJECT")
    return Meaning(f"refused {protocol} of {peer} to {here}: nothing takes it here")


def retry(way: Tuple, flow: Optional[Flow], count: int, seconds: float) -> Meaning:
    """Describe a SYN that was sent again with the same sequence number."""
    target = at(way.destination, way.destination_port)
    source = way.source
    if flow is not None and flow.original.source != source:
        source = f"{source} (NAT for {flow.original.source})"
    return Meaning(
        f"SYN to {target} from {source} sent {count} times in {seconds:.1f} s: no answer"
    )
