"""Steps, drops and refusals of a conversation, to draw pictures of."""

from __future__ import annotations

from remedies.netlink.flow import Flow, Tuple
from remedies.report import conversation
from remedies.report.pictures.shapes import Path
from remedies.rules.rule import PacketRule
from remedies.trace.event import ConversationStep, DropEvent, Event, Meaning, Summary
from remedies.trace.packet_filter import parse
from remedies.values import replace


def way(text: str) -> Tuple:
    """Return ``A:p -> B:q`` of IPv4 as a way."""
    ends = [end.rpartition(":") for end in text.split(" -> ")]
    return Tuple(ends[0][0], int(ends[0][2]), ends[1][0], int(ends[1][2]))


def rule(text: str) -> PacketRule:
    return PacketRule(
        backend="nft", family="ip", table="nat", chain="PREROUTING", hook="prerouting",
        action="dnat", text=text,
    )  # fmt: skip


def step(name: str, flow: Flow, by: str = "") -> ConversationStep:
    return ConversationStep(0.0, name, f"step {name}", flow, rule(by) if by else None)


def drop(text: str, sent_by: str = "") -> DropEvent:
    """Return a drop of a request; ``sent_by``: the text of the DNAT rule that sent it there."""
    return DropEvent(
        time=0.0, reason="NETFILTER_DROP", means="a rule drops it", look="", ordinary=False,
        protocol="udp", way=way(text), flags="", namespace="", container="", link="eth0",
        conntrack="new", place="nft_do_chain", rule="nft inet filter forward: 'policy drop'",
        sent_by=rule(sent_by) if sent_by else None,
    )  # fmt: skip


def event(kind: str, text: str) -> Event:
    return Event(0.0, kind, "udp", way(text), "10.0.0.9", Meaning(f"{kind} said"))


def summary(
    drops: tuple[DropEvent, ...] = (),
    events: tuple[Event, ...] = (),
    flows: tuple[Flow, ...] = (),
) -> Summary:
    return Summary(
        seconds=1.0, heard={}, proven={}, top=events, unexamined=0, lost=0, reasons="",
        reasons_lost=0, machine_drops=None, drops=drops, dropped=len(drops), drops_lost=0,
        drops_source="bpf", followed="udp to 10.0.0.1:53", flows=flows, unread=(),
    )  # fmt: skip


def hostile(text: str) -> tuple[Path, tuple[str, ...]]:
    """Return a picture with a text in every place that another one may have written."""
    flow = Flow("udp", way("10.0.0.9:5000 -> 10.0.0.1:53"), way("172.17.0.2:53 -> 10.0.0.9:5000"),
                seen_reply=False, nat=True)  # fmt: skip
    bad = replace(
        drop("10.0.0.9:5000 -> 172.17.0.2:53"), rule=text, container_name=text, link=text,
        fix=text, look=text, condition=text, container="0123456789ab", about=(text,),
    )  # fmt: skip
    refused = replace(event("refused", "10.0.0.9:5000 -> 172.17.0.2:53"), meaning=Meaning(text))
    steps = (step("request", flow), replace(step("turned", flow, "x"), text=text, rule=rule(text)))
    return conversation.draw(parse("udp to 10.0.0.1:53"), steps, summary((bad,), (refused,)))
