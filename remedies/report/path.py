"""The way of a packet that proves a finding, read off its evidence: stops, and walks between them.

Only what the evidence says is drawn. Where it does not parse (a facts file that somebody edited),
there is no path and so no picture.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Optional

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


class End(NamedTuple):
    """An address and a port."""

    address: str
    port: str

    def __str__(self) -> str:
        """Return it as people write it."""
        return (
            f"[{self.address}]:{self.port}"
            if ":" in self.address
            else f"{self.address}:{self.port}"
        )


def path(judgement: Judgement, interfaces: Iterable[Interface]) -> Optional[Path]:
    """Return the packet's way of a proven finding, or None where the evidence shows none."""
    draw = _BY_CONDITION.get(judgement.condition)
    if draw is None or judgement.verdict != "proven":
        return None
    return draw(judgement, tuple(interfaces))


_END = r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([0-9.]+)):(\d{1,5})"
_WAY = re.compile(rf"{_END} -> {_END}")
_FLOW = re.compile(r"src=(\S+) dst=(\S+) sport=(\d{1,5}) dport=(\d{1,5})")


def _way(text: str) -> Optional[tuple[End, End]]:
    """Return source and destination of ``A:p -> B:q`` somewhere in a text."""
    found = _WAY.search(text)
    if not found:
        return None
    six, four, port, six_to, four_to, port_to = found.groups()
    return End(six or four, port), End(six_to or four_to, port_to)


def _flow(text: str) -> Optional[tuple[End, End]]:
    """Return source and destination of a flow as conntrack(8) prints it."""
    found = _FLOW.search(text)
    if not found:
        return None
    source, destination, sport, dport = found.groups()
    return End(source, sport), End(destination, dport)


def _evidence(judgement: Judgement, key: str) -> tuple[str, str]:
    """Return value and note of the first evidence with this key; empty where there is none."""
    return next(((e.value, e.note) for e in judgement.evidence if e.key == key), ("", ""))


def _link(address: str, interfaces: tuple[Interface, ...]) -> Optional[Interface]:
    """Return the interface whose subnet holds an address: how the host reaches it."""
    try:
        wanted = ipaddress.ip_address(address)
        for item in interfaces:
            if wanted in ipaddress.ip_network(f"{item.address}/{item.prefix}", strict=False):
                return item
    except ValueError:
        return None
    return None


def _named(address: str, interfaces: tuple[Interface, ...]) -> str:
    """Return an address with the interface that carries it, where that is known."""
    name = next((i.name for i in interfaces if i.address == address), "")
    return f"{address} on {name}" if name else address


def _bridge(client: End, interfaces: tuple[Interface, ...]) -> tuple[Stop, ...]:
    link = _link(client.address, interfaces)
    if link is None:
        return ()
    return (Stop(f"{link.kind or 'link'} {link.name}", (f"{link.address}/{link.prefix}",), "link"),)


def _invalid_reset(judgement: Judgement, interfaces: tuple[Interface, ...]) -> Optional[Path]:
    """Draw a segment that is not translated back, and the reset that answers it."""
    flow, note = _evidence(judgement, "flow that owns it")
    reset, _ = _evidence(judgement, "reset sent")
    asked, reply, sent = _way(flow), _way(note), _way(reset)
    if not (asked and reply and sent):
        return None
    client, server = asked
    rule = next((e.value for e in judgement.evidence if e.source == "nat hooks"), "")
    between = _bridge(client, interfaces)
    nat = 1 + len(between)
    translated = (str(client), f"becomes {reply[1]}")
    stops = (
        Stop("Client", (str(client),), "client"),
        *between,
        Stop("NAT on this host", (*translated, rule) if rule else translated, "nat"),
        Stop("Server", (str(server),), "server"),
    )
    walks = (
        Walk(
            0,
            nat + 1,
            f"The connection {client} to {server} goes out, its source rewritten.",
            "good",
        ),
        Walk(
            nat + 1,
            nat,
            f"A segment outside the TCP window comes back to {reply[1]}. conntrack "
            "calls it INVALID, NAT is not undone, and it dies at the host.",
            "lost",
        ),
        Walk(
            nat,
            nat + 1,
            f"The host, which has no such socket, sends a reset {sent[0]} to "
            f"{sent[1]}. The connection is dead.",
            "harm",
        ),
    )
    summary = (
        f"Packets between {client} and {server}: a segment for {reply[1]} is not translated back "
        "at this host's NAT, and the host answers it with a reset"
    )
    return Path(summary, stops, walks)


def _reply_source(judgement: Judgement, interfaces: tuple[Interface, ...]) -> Optional[Path]:
    """Draw a question to one address and its answer from another."""
    asked = _flow(_evidence(judgement, "request")[0])
    answered = _flow(_evidence(judgement, "reply")[0])
    if not (asked and answered):
        return None
    client, wanted = asked
    source, _ = answered
    who = judgement.details.get("process", "")
    if who and judgement.details.get("container"):
        who += f" in container {judgement.details['container']}"
    stops = (
        Stop("Client", (str(client),), "client"),
        Stop("Address that answers", (_named(source.address, interfaces),), "link"),
        Stop("Address that was asked", (_named(wanted.address, interfaces),), "host"),
        Stop("Server", (judgement.subject, *((who,) if who else ())), "server"),
    )
    walks = (
        Walk(0, 3, f"The client asks {wanted}.", "good"),
        Walk(
            3,
            0,
            f"The answer leaves from {source}. The client's connected socket expects "
            f"{wanted} and takes nothing else: the answer dies there.",
            "lost",
        ),
    )
    summary = f"{client} asks {wanted} and is answered from {source}: the answer dies at the client"
    return Path(summary, stops, walks)


def _notrack(judgement: Judgement, _: tuple[Interface, ...]) -> Optional[Path]:
    """Draw the packet that passes the raw hook and finds NAT skipped."""
    notrack, nat = judgement.details.get("notrack"), judgement.details.get("nat")
    if not (notrack and nat):
        return None
    stops = (
        Stop("Client", (), "client"),
        Stop("notrack rule", (notrack,), "rule"),
        Stop("NAT rule", (nat,), "nat"),
        Stop("Where it should have gone", (), "server"),
    )
    walks = (
        Walk(0, 1, "The packet meets the notrack rule first: conntrack does not see it.", "good"),
        Walk(
            1,
            2,
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


_Draw = Callable[[Judgement, tuple[Interface, ...]], Optional[Path]]
_BY_CONDITION: dict[str, _Draw] = {
    "tcp-invalid-reset": _invalid_reset,
    "udp-reply-source": _reply_source,
    "udp-connected-server": _reply_source,
    "udp-proxy-hairpin": _reply_source,
    "notrack-breaks-nat": _notrack,
}
"""Conditions whose evidence holds a request and a reply are drawn alike."""
