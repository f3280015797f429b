"""What a packet means, given the flow, the sockets and the kernel's reason. Pure.

Each function names the condition only where the packet proves it; see the conditions' own
docstrings for why.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Optional

from remedies.facts.pairs import Proof
from remedies.facts.process import Process
from remedies.facts.services import PROXY
from remedies.netlink.flow import Flow, Tuple
from remedies.printable import at
from remedies.rules.rule import PacketRule
from remedies.tap.lookups import Awaited
from remedies.tap.whose import whose
from remedies.trace.behind import Behind
from remedies.trace.event import Meaning
from remedies.trace.missed_nat import MissedNat


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
    """Say what a reset means that left ``way``; :func:`remedies.tap.whose.whose` judges it."""
    judged = whose(
        way, flow, local, answers=answers, reason=reason, reasons_complete=reasons_complete
    )
    target = f"reset sent to {at(way.destination, way.destination_port)}"
    if judged.end is None:
        return Meaning(f"{target} from {at(way.source, way.source_port)}")
    text = f"{target} for a flow that NAT translates for {judged.end}"
    if judged.whose == "nat":
        return Meaning(text, "tcp-invalid-reset")
    return Meaning(f"{text}{_NO_PROOF[judged.whose]}")


def rejected(way: Tuple, rule: PacketRule) -> Meaning:
    """Say what a reset means by which a rule rejects a segment of a connection as INVALID."""
    return Meaning(
        f"reset sent to {at(way.destination, way.destination_port)} from "
        f"{at(way.source, way.source_port)}: conntrack calls the segment INVALID and "
        f"{rule.named} rejects it",
        "tcp-invalid-stall",
    )


def refused_behind(way: Tuple, peer: str, behind: Behind) -> Meaning:
    """Judge a port unreachable that came from ``peer`` for what somebody sent through NAT here."""
    there = at(way.destination, way.destination_port)
    sender = at(behind.sent.source, behind.sent.source_port)
    if behind.request is None:
        sent = at(way.source, way.source_port)
        return Meaning(
            f"{peer} refused udp from {sent}, which {sender} sent through NAT here: no process "
            f"listens at {there}"
        )
    asked, turned = behind.request.original, behind.request.reply
    return Meaning(
        f"{there} asked {at(asked.destination, asked.destination_port)}, which NAT turns into "
        f"{at(turned.source, turned.source_port)}, and refused the answer, which {sender} sent: "
        f"the server there has to answer from {turned.source}"
    )


_NO_PROOF = {
    "rejected": "; the kernel's TCP did not send it: a firewall's REJECT does that",
    "unsure": "; it is not known whether the kernel's TCP or a firewall's REJECT sent it",
    "here": ", which is here: a program here may have sent it",
}


def refused(
    way: Tuple,
    peer: str,
    protocol: str,
    proof: Optional[Proof],
    process: Optional[Process],
    *,
    connected: bool = False,
) -> Meaning:
    """Judge a port unreachable that came from ``peer`` and quotes our datagram ``way``.

    ``proof``: the pair with the request by which the receiver had asked another local address;
    ``process``: who sent the datagram; ``connected``: by a socket that it connected to its client.
    """
    sent = at(way.source, way.source_port)
    there = at(way.destination, way.destination_port)
    if proof is None:
        by = "" if process is None else f", which {who(process)} sent"
        return Meaning(f"{peer} refused {protocol} from {sent}{by}: no process listens at {there}")
    asked = at(proof.request.original.destination, proof.request.original.destination_port)
    turned = at(proof.asked, proof.port)
    nat = "" if turned == asked else f", which NAT turns into {turned},"
    text = (
        f"{there} asked {asked}{nat} and refused the answer, which {who(process)} sent from {sent}"
    )
    if process is not None and process.name == PROXY:
        return Meaning(text, "udp-proxy-hairpin")
    return Meaning(text, "udp-connected-server" if connected else "udp-reply-source")


def refusal(
    way: Tuple,
    peer: str,
    protocol: str,
    connected: Optional[str],
    process: Optional[Process],
    local: Collection[str],
    *,
    past: Optional[MissedNat] = None,
    awaited: Optional[Awaited] = None,
) -> Meaning:
    """Judge a port unreachable that was sent to ``peer`` and quotes its datagram ``way``.

    ``connected``: another local address on which a socket is connected to that very client by
    the same ports. ``past``: the NAT rule that sends such datagrams on, and did not see this one.
    ``awaited``: the client behind NAT that it is for.
    """
    here = at(way.destination, way.destination_port)
    if connected is not None:
        mine = at(connected, way.destination_port)
        return Meaning(
            f"{at(way.source, way.source_port)} asked {here} and was refused: {who(process)} "
            f"has connected its socket to that client from {mine}",
            "udp-connected-server",
        )
    if way.destination not in local and not way.destination.startswith("127."):
        return Meaning(
            f"refused {protocol} of {peer} to {here} while forwarding: a firewall's REJECT"
        )
    text = f"refused {protocol} of {peer} to {here}"
    if awaited is not None:
        return Meaning(f"{text}: {waited_for(way, awaited)}")
    if past is not None:
        return Meaning(f"{text}: {past.why}; {past.fix}")
    return Meaning(f"{text}: no process listens here")


def waited_for(way: Tuple, awaited: Awaited) -> str:
    """Say for whom a packet ``way`` is that came to this host itself."""
    client = awaited.flow.original
    asked = (
        f"{at(client.source, client.source_port)} asked "
        f"{at(client.destination, client.destination_port)} through NAT here"
    )
    if awaited.why == "forgotten":
        return (
            f"{asked}, conntrack had no flow any more when this came for it, and NAT has had to "
            f"give that client port {awaited.flow.reply.destination_port} instead"
        )
    if awaited.why == "passive":
        return (
            f"{asked}, and opens the data connection to port {way.destination_port}: FTP in "
            "passive mode behind a published port needs its conntrack helper for that"
        )
    comes = "opens the data connection" if awaited.why == "data" else "answers"
    name = "FTP in active mode" if awaited.why == "data" else "a protocol such as TFTP"
    return (
        f"{asked}, and the server {comes} from port {way.source_port}: {name} needs its conntrack "
        "helper for that"
    )


def retry(way: Tuple, flow: Optional[Flow], count: int, seconds: float) -> Meaning:
    """Describe a SYN that was sent again with the same sequence number."""
    target = at(way.destination, way.destination_port)
    source = way.source
    if flow is not None and flow.original.source != source:
        source = f"{source} (NAT for {flow.original.source})"
    return Meaning(
        f"SYN to {target} from {source} sent {count} times in {seconds:.1f} s: no answer"
    )
