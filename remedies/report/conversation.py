"""The picture of one conversation that a trace followed: stops, and a step a walk. Pure.

A request goes from the client (top) through what NAT makes of it to the server (bottom), and the
answer goes back. What drops a packet is a stop where the packet's own addresses say that it was:
before NAT changed them, or after.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Optional

from remedies.netlink.flow import Flow, Tuple
from remedies.printable import at, end
from remedies.report.pictures.shapes import Path, Stop, Walk
from remedies.rules.publishing import asked_port
from remedies.trace.event import ConversationStep, DropEvent, Event, Summary
from remedies.trace.packet_filter import PacketFilter
from remedies.values import NamedTuple, replace

_DROPS = 6
"""Kinds of drops that are drawn, those with most packets first; the summary has them all."""
_EVENTS = 4
_HERE = "This host"


class _Lost(NamedTuple):
    """A kind of drop: in which direction, how far it came, and the stop it makes."""

    drop: DropEvent
    asking: bool
    """It is a request; else an answer."""
    passed: int
    """NAT stops between the client and where it was dropped."""
    stop: Stop


def draw(
    wanted: PacketFilter, steps: Iterable[ConversationStep], summary: Summary
) -> tuple[Path, tuple[str, ...]]:
    """Return the picture of the conversation, and lines about what is beside it.

    Of several flows that were asked for, the one with the most trouble is drawn.
    """
    steps = tuple(steps)
    flows = {(step.flow.protocol, step.flow.original): step.flow for step in steps}
    flows.update({(flow.protocol, flow.original): flow for flow in summary.flows})
    drops = tuple(d for d in summary.drops if d.way is not None and not d.ordinary)
    flow = _chosen(tuple(flows.values()), drops, summary.top)
    if flow is None:
        flow, steps = _unseen(wanted, drops, summary.top)
    if flow is None:
        client = _written(wanted.source or wanted.source_name, wanted.source_port)
        server = _written(wanted.destination or wanted.destination_name, wanted.destination_port)
        stops = (Stop("Client", (client,), "client"), Stop("Server", (server,), "server"))
        text = f"{wanted}: nothing of it was seen on this host"
        return Path(text, stops, ()), _notes(summary, 0)
    mine = tuple(step for step in steps if _same(step.flow, flow))
    lost = [
        _placed(flow, drop, drop.way)
        for drop in drops
        if drop.way is not None and _concerns(flow, drop.protocol, drop.way)
    ]
    events = [each for each in summary.top if _is_about(flow, each)]
    path = _path(flow, mine, lost[:_DROPS], events[:_EVENTS])
    return path, _notes(summary, sum(not _same(each, flow) for each in flows.values()))


def _same(flow: Flow, other: Flow) -> bool:
    return (flow.protocol, flow.original) == (other.protocol, other.original)


def _chosen(
    flows: tuple[Flow, ...], drops: tuple[DropEvent, ...], events: tuple[Event, ...]
) -> Optional[Flow]:
    """Return the flow to draw: one with drops, else one with refusals, else one unanswered."""

    def calm(flow: Flow) -> tuple[bool, bool, bool]:
        dropped = any(_concerns(flow, drop.protocol, drop.way) for drop in drops)
        refused = any(_is_about(flow, each) for each in events)
        return not dropped, not refused, flow.seen_reply

    return min(flows, key=calm, default=None)


def _unseen(
    wanted: PacketFilter, drops: tuple[DropEvent, ...], events: tuple[Event, ...]
) -> tuple[Optional[Flow], tuple[ConversationStep, ...]]:
    """Return a flow for packets of which conntrack has none: dropped before it could be made.

    And the step that a DNAT rule may have made of it.
    """
    for drop in drops:
        if drop.way is not None and drop.sent_by is not None:
            way, rule = drop.way, drop.sent_by
            named = (rule.match.destinations or ("this host",))[0].partition("/")[0]
            asked = wanted.destination or named
            first = Tuple(way.source, way.source_port, asked, asked_port(rule, way))
            flow = Flow(drop.protocol.split()[0], first, way.reversed, seen_reply=False, nat=True)
            text = f"{rule.named} sends it to {end(way.destination, way.destination_port)}"
            return flow, (ConversationStep(drop.time, "turned", text, flow, rule),)
    heard = [*((d.protocol, d.way) for d in drops), *((e.protocol, e.way) for e in events)]
    for protocol, found in heard:
        if found is not None:
            answer = wanted.is_request(found.reversed) and not wanted.is_request(found)
            first = found.reversed if answer else found
            flow = Flow(protocol.split()[0], first, first.reversed, seen_reply=False, nat=False)
            return flow, ()
    return None, ()


def _written(name: str, port: Optional[int]) -> str:
    """Return an end of a filter as people write it."""
    address = name or "any address"
    return address if port is None else at(address, port)


def _concerns(flow: Flow, protocol: str, way: Optional[Tuple]) -> bool:
    """Tell whether a packet is of a flow, in either direction, before NAT, after it or between."""
    return (
        way is not None and protocol.split()[0] == flow.protocol and _asking(flow, way) is not None
    )


def _is_about(flow: Flow, event: Event) -> bool:
    """Tell whether a refusal or reset is about a flow: by what it was tied to, else by its ends."""
    if event.flow is not None:
        return _same(event.flow, flow)
    return _concerns(flow, event.protocol, event.way)


def _asking(flow: Flow, way: Tuple) -> Optional[bool]:
    """Tell whether a way is the flow's request (True), its answer (False) or neither (None)."""
    first, back = flow.original, flow.reply
    client = (first.source, first.source_port), (back.destination, back.destination_port)
    server = (first.destination, first.destination_port), (back.source, back.source_port)
    for asking, one in ((True, way), (False, way.reversed)):
        if _is_one_of((one.source, one.source_port), client) and _is_one_of(
            (one.destination, one.destination_port), server
        ):
            return asking
    return None


def _is_one_of(one: tuple[str, int], ends: tuple[tuple[str, int], ...]) -> bool:
    """Tell whether an end is one of others; port 0 stands for any (see :class:`DropEvent`)."""
    return any(one[0] == address and one[1] in (0, port) for address, port in ends)


def _turned(flow: Flow) -> bool:
    """Tell whether NAT gives the flow another target."""
    first, back = flow.original, flow.reply
    return (first.destination, first.destination_port) != (back.source, back.source_port)


def _lent(flow: Flow) -> bool:
    """Tell whether NAT gives the flow another source."""
    first, back = flow.original, flow.reply
    return (first.source, first.source_port) != (back.destination, back.destination_port)


def _placed(flow: Flow, drop: DropEvent, way: Tuple) -> _Lost:
    """Return where a drop was: NAT has changed the addresses that it passed."""
    asking = bool(_asking(flow, way))
    request = way if asking else way.reversed
    passed = 0
    target = (flow.reply.source, flow.reply.source_port)
    if _turned(flow) and _is_one_of((request.destination, request.destination_port), (target,)):
        passed = 1
    if _lent(flow) and request.source == flow.reply.destination != flow.original.source:
        passed = 1 + _turned(flow)
    title, name = _where(drop)
    link = f"on {drop.link}" if drop.link else ""
    lines = (name, drop.rule or drop.means, f"{drop.reason} {drop.place}".strip(), link)
    return _Lost(drop, asking, passed, Stop(title, lines, "rule" if drop.rule else "host"))


def _where(drop: DropEvent) -> tuple[str, str]:
    """Return the title of a drop's stop, and the name of the place that is no part of this host."""
    if drop.container:
        return "Container", drop.container_name or drop.container
    if drop.namespace:
        return "Namespace", drop.namespace
    return "Firewall rule" if drop.rule else _HERE, ""


def _other_sources(flow: Flow, events: list[Event]) -> tuple[str, ...]:
    """Return from which addresses the answers came that the client refused as none of its own."""
    back = flow.reply
    ways = [e.way for e in events if e.event == "refused" and _asking(flow, e.way) is None]
    return tuple(
        dict.fromkeys(
            f"answers from {end(way.source, way.source_port)}"
            for way in ways
            if way.destination == back.destination
        )
    )


def _path(
    flow: Flow, steps: tuple[ConversationStep, ...], lost: list[_Lost], events: list[Event]
) -> Path:
    """Return stops from client to server, and a walk for each step."""
    first, back = flow.original, flow.reply
    client = end(first.source, first.source_port)
    wanted = end(first.destination, first.destination_port)
    server = end(back.source, back.source_port)
    rules = {step.step: step.rule for step in steps}
    own = end(back.destination, back.destination_port)
    changes = (
        (
            "turned",
            _turned(flow),
            Stop("NAT: another target", (wanted, f"becomes {server}"), "nat"),
        ),
        ("source", _lent(flow), Stop("NAT: another source", (client, f"becomes {own}"), "nat")),
    )
    stops = [Stop("Client", (client,), "client")]
    at_nat: dict[str, int] = {}
    found = _add(stops, lost, 0)
    for step, happens, stop in changes:
        if happens:
            rule = rules.get(step)
            told = (rule.place, rule.text) if rule else ("no current rule does that",)
            at_nat[step] = len(stops)
            stops.append(replace(stop, lines=(*stop.lines, *told)))
            found.update(_add(stops, lost, len(at_nat)))
    here = [found[each.stop] for each in lost if each.stop.title == _HERE]
    host = next(iter((*here, *at_nat.values())), None)
    if host is None and any(each.event in ("reset", "refusal") for each in events):
        host = len(stops)
        stops.append(Stop(_HERE, (), "host"))
    stops.append(Stop("Server", (server, *_other_sources(flow, events)), "server"))
    last = len(stops) - 1
    walks = [
        *_requests(steps, lost, found, at_nat, last),
        *_answers(steps, lost, found, last),
        *_refusals(flow, events, last if host is None else host, last),
    ]
    return Path(_told(flow, wanted, client, lost, events), tuple(stops), tuple(walks))


def _add(stops: list[Stop], lost: list[_Lost], passed: int) -> dict[Stop, int]:
    """Add the stops of drops that have passed so many NAT stops; return the number of each."""
    here = dict.fromkeys(each.stop for each in lost if each.passed == passed)
    found = {stop: len(stops) + n for n, stop in enumerate(here)}
    stops += here
    return found


def _requests(
    steps: tuple[ConversationStep, ...],
    lost: list[_Lost],
    found: dict[Stop, int],
    at_nat: dict[str, int],
    last: int,
) -> Iterator[Walk]:
    """Yield the steps of the request, then where it was dropped."""
    answered = any(step.step == "answered" for step in steps)
    deadly = [found[each.stop] for each in lost if each.asking]
    farthest = last if answered or not deadly else min(deadly)
    stations = [0, *(at_nat[name] for name in ("turned", "source") if name in at_nat), last]
    following = dict(zip(stations, stations[1:]))
    begins = {"request": 0, **at_nat}
    for step in steps:
        start = begins.get(step.step)
        if start is not None:
            to = following[start]
            yield Walk(start, min(to, farthest) if farthest > start else to, step.text, "good")
    for each in lost:
        if each.asking:
            yield Walk(0, found[each.stop], _label(each.drop), "lost")


def _answers(
    steps: tuple[ConversationStep, ...], lost: list[_Lost], found: dict[Stop, int], last: int
) -> Iterator[Walk]:
    """Yield the step of the answer, then where it was dropped."""
    deadly = [found[each.stop] for each in lost if not each.asking]
    for step in steps:
        if step.step == "answered":
            yield Walk(last, max(deadly, default=0), step.text, "good")
    for each in lost:
        if not each.asking:
            yield Walk(last, found[each.stop], _label(each.drop), "lost")


def _refusals(flow: Flow, events: list[Event], host: int, last: int) -> Iterator[Walk]:
    """Yield what was refused or reset: by this host, or by whom it sent a packet to."""
    for each in events:
        asking = bool(_asking(flow, each.way))
        sender, receiver = (0, last) if asking else (last, 0)
        text = each.meaning.text
        if each.meaning.condition:
            text += f": proven {each.meaning.condition}"
        if each.event == "reset":
            yield Walk(host, receiver, text, "harm")
        elif each.event == "refusal":
            yield Walk(sender, host, text, "lost")
        else:
            yield Walk(sender, receiver, text, "lost" if each.event == "refused" else "harm")


def _label(drop: DropEvent) -> str:
    return f"dropped {f'{drop.count:,} times ' if drop.count > 1 else ''}{drop.text}"


def _told(flow: Flow, wanted: str, client: str, lost: list[_Lost], events: list[Event]) -> str:
    """Return the sentence that says what the picture shows."""
    text = f"{flow.protocol} {client} asks {wanted}"
    if lost:
        which = "its request" if lost[0].asking else "the answer"
        return f"{text}: {which} is dropped: {lost[0].drop.rule or lost[0].drop.means}"
    if events:
        return events[0].meaning.text
    return f"{text}: {'an' if flow.seen_reply else 'no'} answer arrived"


def _notes(summary: Summary, others: int) -> tuple[str, ...]:
    """Return what conditions say, what to do, and what is not drawn."""
    lines = [f"{each.verdict} {each.condition}: {each.message}" for each in summary.findings]
    for drop in summary.drops:
        if not drop.ordinary:
            lines += [f"condition: {drop.condition}"] if drop.condition else []
            lines += [f"fix: {drop.fix}"] if drop.fix else []
            lines += [f"look: {drop.look}"] if drop.look else []
    if others:
        lines.append(f"not drawn: {others} more of '{summary.followed}'")
    return tuple(dict.fromkeys(lines))
