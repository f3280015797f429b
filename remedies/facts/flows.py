"""Conntrack flows, asked for narrowly and filtered in the kernel."""

from __future__ import annotations

from remedies.errors import Unreadable
from remedies.facts import Asking, sysctl
from remedies.netlink import conntrack, conntrack_entry, conntrack_shares
from remedies.netlink.flow import Flow
from remedies.netlink.socket import NETLINK_NETFILTER, Netlink
from remedies.values import dataclass

AFTER = ("sysctl", "counters", "tap")

PRESSURE = 0.80
"""How full the table is when shares are read, as a part of nf_conntrack_max."""
SHARES_TOPIC = "flow-shares"
"""A topic of :class:`~remedies.facts.Asking`: read shares however full the table is."""
MOST_SHARES = 20
MOST_OPENING = 1000
_NONE = conntrack_shares.Shares((), (), 0)


@dataclass(frozen=True)
class Share:
    """How much of the table one local service owns."""

    protocol: str
    destination: str
    port: int
    flows: int


@dataclass(frozen=True)
class FlowSource:
    """How much of the table one address began, of one protocol and state."""

    protocol: str
    address: str
    flows: int
    state: str = ""
    """Of TCP, as ``SYN_SENT``; empty for others."""


@dataclass(frozen=True)
class Flows:
    """The flows that conditions ask about."""

    unreplied: tuple[Flow, ...] = ()
    """UDP flows without SEEN_REPLY, at most ``limit``."""
    limit: int = 10_000
    truncated: bool = False
    opening: tuple[Flow, ...] = ()
    """TCP flows of which nothing but SYNs was seen, at most :data:`MOST_OPENING`."""
    shares: tuple[Share, ...] = ()
    """Most flows first; read only when the table is fuller than the pressure threshold."""
    sources: tuple[FlowSource, ...] = ()
    """Most flows first; read with the shares."""
    counted: int = 0
    """Flows that shares and sources were counted of: fewer than ``count`` where those were a
    sample, or time ran out."""
    count: int = 0
    """Flows in this namespace's table (``nf_conntrack_count``)."""
    unread: tuple[str, ...] = ()
    """What could not be read, and why."""


def read(asking: Asking) -> Flows:
    """Read unreplied flows, and the shares where the table is nearly full.

    An empty table is not walked, and where conntrack is not there nothing is asked: the request
    itself would load its modules. Raises Unreadable where nf_conntrack_count cannot be read.
    """
    try:
        count = int(sysctl.value("net.netfilter.nf_conntrack_count"))
        most = int(sysctl.value("net.netfilter.nf_conntrack_max"))
    except FileNotFoundError:
        return Flows()
    except (OSError, ValueError) as error:
        raise Unreadable(f"nf_conntrack_count: {error}") from error
    if count == 0:
        return Flows()
    unread: list[str] = []
    unreplied, opening, truncated = _unreplied(asking, unread)
    full = most > 0 and count / most > PRESSURE
    wanted = full or SHARES_TOPIC in asking.topics
    counted = _shares(asking, unread) if wanted else _NONE
    return Flows(
        unreplied=unreplied,
        truncated=truncated,
        opening=opening,
        shares=tuple(Share("udp", *each) for each in counted.services[:MOST_SHARES]),
        sources=tuple(
            FlowSource(each.protocol, each.source, each.flows, each.state)
            for each in counted.sources[:MOST_SHARES]
        ),
        counted=counted.counted,
        count=count,
        unread=tuple(dict.fromkeys(unread)),
    )


def _unreplied(
    asking: Asking, unread: list[str]
) -> tuple[tuple[Flow, ...], tuple[Flow, ...], bool]:
    """Return the flows of UDP and of TCP, and whether there were more of UDP than the limit."""
    found: list[Flow] = []
    opening: list[Flow] = []
    try:
        with Netlink(NETLINK_NETFILTER, asking.deadline()) as client:
            for entry in conntrack.unreplied(client, MOST_OPENING):
                if entry.opening:
                    opening.append(conntrack_entry.flow_of(entry))
                elif len(found) == Flows.limit:
                    return tuple(found), tuple(opening), True
                else:
                    found.append(conntrack_entry.flow_of(entry))
    except OSError as error:
        unread.append(str(conntrack.not_permitted(error)))
    return tuple(found), tuple(opening), False


def _shares(asking: Asking, unread: list[str]) -> conntrack_shares.Shares:
    try:
        with Netlink(NETLINK_NETFILTER, asking.deadline()) as client:
            found = conntrack_shares.shares(client)
    except OSError as error:
        unread.append(str(conntrack.not_permitted(error)))
        return _NONE
    if found.stopped:
        unread.append(f"conntrack: only {found.counted} flows were counted: {found.stopped}")
    return found
