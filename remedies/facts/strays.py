"""Packets for a client behind NAT that came to this host itself, because NAT did not know whose.

Looked up only if the kernel dropped packets for an address here that begin a flow of their own,
while the window lasted: no socket took them, or the firewall did not.
"""

from __future__ import annotations

from collections.abc import Iterable

from remedies.facts import Asking
from remedies.facts.drop_signs import evidence
from remedies.facts.droppers import BY_FIREWALL
from remedies.facts.drops import Drops, SeenDrop
from remedies.model import Evidence
from remedies.netlink.flow import Flow, Tuple
from remedies.netlink.links import Links
from remedies.printable import at, both_ends
from remedies.tap.lookups import Questions, Why
from remedies.values import dataclass

AFTER = ("drops", "links")

NO_SOCKET = "NO_SOCKET"
SYN = 0x02
_MOST = 16


@dataclass(frozen=True)
class StrayPacket:
    """Packets of one conversation that were dropped here, and the client that they were for."""

    drop: SeenDrop
    flow: Flow
    """The client's own flow, through NAT."""
    why: Why
    """As :class:`remedies.tap.lookups.Awaited` says."""


@dataclass(frozen=True)
class Strays:
    """Those that were looked into, most packets first."""

    found: tuple[StrayPacket, ...] = ()
    unread: tuple[str, ...] = ()


def evidence_of(strays: Iterable[StrayPacket], what: str, preposition: str) -> tuple[Evidence, ...]:
    """Return what was dropped, and of each the client's own flow: ``what`` NAT did with it.

    ``preposition``: before the address and port that NAT gave the client.
    """
    return tuple(
        item
        for stray in strays
        for item in (
            evidence(stray.drop),
            Evidence(
                "conntrack",
                what,
                f"{stray.flow.protocol} {both_ends(*stray.flow.original.parts)}",
                f"to {at(*stray.flow.reply.parts[:2])}"
                if stray.why == "passive"
                else f"{preposition} {at(*stray.flow.reply.parts[2:])}",
            ),
        )
    )


def may_be(reason: str, protocol: str, way: Tuple, flags: int, state: str) -> bool:
    """Tell whether a packet dropped here may be one: it begins a flow, to a port."""
    if protocol == "udp" and reason == NO_SOCKET:
        new = not state  # udp_rcv() has let go of the flow by then (nf_reset_ct())
    else:
        new = state == "new" and (protocol == "udp" or (protocol == "tcp" and flags == SYN))
    return new and reason in (NO_SOCKET, BY_FIREWALL) and bool(way.destination_port)


def read(asking: Asking) -> Strays:
    """Read the fact; where drops cannot be heard, it says so."""
    drops, links = asking.earlier(Drops), asking.earlier(Links)
    if drops is None or links is None:
        return Strays(unread=("dropped packets or links could not be read",))
    local = links.local
    sought = [
        drop
        for drop in drops.seen
        if drop.way.destination in local
        and may_be(drop.reason, drop.protocol, drop.way, drop.flags, drop.state)
    ]
    unread = () if drops.listened else drops.unread
    if not sought:
        return Strays(unread=unread)
    questions = Questions()
    try:
        found = [(drop, questions.awaited(drop.protocol, drop.way)) for drop in sought[:_MOST]]
        unread = (*unread, *questions.unread)
    finally:
        questions.close()
    strays = tuple(
        StrayPacket(drop, each.flow, each.why) for drop, each in found if each is not None
    )
    return Strays(strays, unread)
