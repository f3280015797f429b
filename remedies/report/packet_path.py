"""The way of a packet that proves a finding, read off its evidence: stops, and walks between them.

Only what the evidence says is drawn. Where it does not parse (a facts file that somebody edited),
there is no path and so no picture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Optional

from remedies.report.evidence import (
    Interfaces,
    PathEnd,
    carrier,
    flow,
    socket,
    towards,
    value,
    values,
    way,
)
from remedies.report.record import Interface, Judgement


@dataclass(frozen=True)
class Stop:
    """One place on the way: what it is, and its addresses or rule."""

    title: str
    lines: tuple[str, ...]
    kind: str
    """``client``, ``link``, ``nat``, ``host``, ``server`` or ``rule``."""


@dataclass(frozen=True)
class Walk:
    """One packet, from stop to stop (indices); ``lost`` where it dies at its last stop."""

    start: int
    end: int
    label: str
    kind: str
    """``good``, ``lost`` or ``harm`` (what the host wrongly sends)."""


@dataclass(frozen=True)
class Path:
    """Stops from the client (top) to the server (bottom), and the packets in order."""

    summary: str
    """One sentence that says what the picture shows: its text alternative."""
    stops: tuple[Stop, ...]
    walks: tuple[Walk, ...]


def path(judgement: Judgement, interfaces: Iterable[Interface]) -> Optional[Path]:
    """Return the packet's way of a proven finding, or None where the evidence shows none."""
    draw = _BY_CONDITION.get(judgement.condition)
    if draw is None or judgement.verdict != "proven":
        return None
    return draw(judgement, tuple(interfaces))


def _link(item: Optional[Interface], *lines: str) -> Stop:
    """Return the stop of an interface; of the host itself where it is not known."""
    if item is None:
        return Stop("This host", lines, "link")
    return Stop(f"{item.kind or 'interface'} {item.name}", lines, "link")


def _between(address: str, interfaces: Interfaces) -> tuple[Stop, ...]:
    """Return the interface by which an address is reached, where that is known."""
    item = towards(address, interfaces)
    return () if item is None else (_link(item, f"{item.address}/{item.prefix}"),)


def _process(judgement: Judgement) -> tuple[str, ...]:
    name = judgement.details.get("process", "")
    container = judgement.details.get("container_name") or judgement.details.get("container")
    if not name:
        return ()
    return (f"{name} in container {container}" if container else name,)


def _invalid_reset(judgement: Judgement, interfaces: Interfaces) -> Optional[Path]:
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
    near = _between(client.address, interfaces)
    # A server far off is reached by the interface whose address NAT lends.
    far = _between(server.address, interfaces) or _between(reply[1].address, interfaces)
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


def _reply_source(judgement: Judgement, interfaces: Interfaces) -> Optional[Path]:
    """Draw a question to one address and its answer from another."""
    asked, answered = flow(value(judgement, "request")[0]), flow(value(judgement, "reply")[0])
    if not (asked and answered):
        return None
    client, wanted = asked
    source, _ = answered
    bound = value(judgement, "local address")[0] or judgement.subject
    stops = (
        Stop("Client", (str(client),), "client"),
        _link(carrier(source.address, interfaces), str(source), "the answer leaves from here"),
        _link(carrier(wanted.address, interfaces), str(wanted), "the client asked this address"),
        Stop("Server", (bound, *_process(judgement)), "server"),
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


def _hairpin(judgement: Judgement, interfaces: Interfaces) -> Optional[Path]:
    """Draw a container's question that NAT leaves to docker-proxy, and the proxy's answer."""
    drawn = _reply_source(judgement, interfaces)
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


def _connected(judgement: Judgement, interfaces: Interfaces) -> Optional[Path]:
    """Draw a datagram for an address whose socket has moved to another one."""
    asked = flow(value(judgement, "request")[0])
    sockets = [pair for text, _ in values(judgement, "connected") if (pair := socket(text))]
    if asked is None or not sockets:
        return None
    client, wanted = asked
    local, peer = next((pair for pair in sockets if pair[1] == client), sockets[0])
    stops = (
        Stop("Client", (str(client),), "client"),
        *_between(client.address, interfaces),
        _link(carrier(wanted.address, interfaces), str(wanted), "the client asks this address"),
        Stop("Server", (str(local), f"connected to {peer}", *_process(judgement)), "server"),
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


_COMES_BY = re.compile(r'(?<!\S)iifname "?([^\s"]{1,15})"?')
_DNAT_TO = re.compile(r"\bdnat (?:ip6? )?to (\S+)")
_SEEN_BY_BOTH = re.compile(r"both see[^:]*: (.+)")


def _notrack(judgement: Judgement, interfaces: Interfaces) -> Optional[Path]:
    """Draw the packet that passes the raw hook and finds NAT skipped."""
    notrack, nat = judgement.details.get("notrack"), judgement.details.get("nat")
    if not (notrack and nat):
        return None
    notes = (e.note for e in judgement.evidence if e.value == nat)
    packet = _SEEN_BY_BOTH.search(next(notes, ""))
    places = {e.value: e.source for e in judgement.evidence}
    comes, to = _COMES_BY.search(nat), _DNAT_TO.search(nat)
    link = next((i for i in interfaces if comes and i.name == comes[1]), None)
    stops = (
        Stop("Client", (packet[1],) if packet else (), "client"),
        *((_link(link, f"{link.address}/{link.prefix}"),) if link else ()),
        Stop("notrack rule", tuple(filter(None, (places.get(notrack), notrack))), "rule"),
        Stop("NAT rule, passed over", tuple(filter(None, (places.get(nat), nat))), "nat"),
        Stop("Where it should have gone", (to[1],), "server")
        if to
        else Stop("Peer", ("expects the address that NAT gives",), "server"),
    )
    last = len(stops) - 1
    walks = (
        Walk(
            0,
            last - 2,
            "The packet meets the notrack rule first: conntrack does not see it.",
            "good",
        ),
        Walk(
            last - 2,
            last - 1,
            "NAT works on tracked packets alone, so its rule is passed over. The packet goes on "
            "with the address that NAT should have changed.",
            "lost",
        ),
    )
    return Path(
        f"A packet that '{notrack}' takes from conntrack dies at '{nat}', which is passed over",
        stops,
        walks,
    )


_Draw = Callable[[Judgement, Interfaces], Optional[Path]]
_BY_CONDITION: dict[str, _Draw] = {
    "tcp-invalid-reset": _invalid_reset,
    "udp-reply-source": _reply_source,
    "udp-connected-server": _connected,
    "udp-proxy-hairpin": _hairpin,
    "notrack-breaks-nat": _notrack,
}
