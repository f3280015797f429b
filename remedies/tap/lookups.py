"""What the tap asks the kernel about a packet, at once, because the flow may soon be gone."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable
from typing import Literal, Optional

from remedies.errors import Unreadable
from remedies.netlink import diag
from remedies.netlink.conntrack import TupleMatch, flow_by_tuple, flows, not_permitted
from remedies.netlink.conntrack_entry import IPS_SEEN_REPLY, flow_of
from remedies.netlink.flow import Flow, Tuple
from remedies.netlink.socket import NETLINK_NETFILTER, NETLINK_SOCK_DIAG, Netlink
from remedies.tap.allowance import Allowance
from remedies.values import NamedTuple

_PATIENCE = 1.0
_MOST_ADDRESSES = 64
"""Local addresses that one refused datagram is asked about."""
_MOST_FLOWS = 64
_SHARE = 5
"""Walks of the flow table take one part in so many of a processor: what would come more often waits
for its repetition."""
_BURST = 2.0
"""Seconds by which walks may run ahead of that: refusals come several at once."""

_FRESH = 1.0
"""Seconds for which the sessions of FTP that were found are those that there are."""
_MOST_SESSIONS = 1024

FTP = 21
_FTP_DATA = 20
"""ftp and ftp-data (RFC 959, 8; RFC 1123, 4.1.2.12): in active mode the server opens the data
connection, from the second unless it may not."""
OWN_PORTS = 32768
"""From here on programs are given ports that they do not name (net.ipv4.ip_local_port_range):
who waits for data has one. Below it others may be meant: servers ask for port 113 (RFC 1413)."""

Why = Literal["data", "passive", "other-port", "forgotten"]


class Awaited(NamedTuple):
    """What a client behind NAT waits for, while NAT does not know that it is for this client."""

    flow: Flow
    """The client's own, through NAT."""
    why: Why
    """``data``: FTP's data connection, which its server opens; ``passive``: which its client opens,
    to a server behind a published port; ``other-port``: the answer comes from another port, as
    TFTP's; ``forgotten``: conntrack had forgotten the flow, the datagram took its port, and NAT has
    given the client another one since."""

    @property
    def asked(self) -> tuple[str, int]:
        """Return the server's address and port that the client asked."""
        return self.flow.original.destination, self.flow.original.destination_port


class Questions:
    """Exact look-ups in conntrack and among sockets, each over a netlink socket opened when needed.

    After one refusal conntrack is asked nothing more: :attr:`unread` says why.
    """

    def __init__(self) -> None:
        """Ask nothing where conntrack is not there: the request would load its modules."""
        self.open = os.path.exists("/proc/sys/net/netfilter/nf_conntrack_count")
        self.unread: dict[str, None] = {}
        self._client: Optional[Netlink] = None
        self._sockets: Optional[Netlink] = None
        self._processor = Allowance(_SHARE, _BURST)
        self._asked = float("-inf")
        self._sessions: tuple[Flow, ...] = ()

    def flow(self, protocol: str, way: Tuple) -> Optional[Flow]:
        """Return the flow one of whose directions is ``way``; None: none, or none can be read."""
        if not self.open:
            return None
        try:
            if self._client is None:
                self._client = Netlink(NETLINK_NETFILTER)
            self._client.deadline = time.monotonic() + _PATIENCE
            entry = flow_by_tuple(self._client, protocol, way)
        except OSError as error:
            refused = not_permitted(error)
        except Unreadable as error:
            refused = error
        else:
            return None if entry is None else flow_of(entry)
        self.unread[str(refused)] = None
        self.open = False
        return None

    def other_request(self, refused: Tuple, local: Iterable[str]) -> Optional[Flow]:
        """Return the unreplied flow by which the client of a refused UDP reply had asked.

        Its requests came from the client's port to the port that the reply left from, on a local
        address other than the reply's, by themselves or by NAT: the pair is the proof of
        ``udp-reply-source``.
        """
        same_family = [a for a in sorted(local) if (":" in a) == (":" in refused.source)]
        if len(same_family) > _MOST_ADDRESSES:
            cut = f"flows of refused replies: {_MOST_ADDRESSES} of {len(same_family)} addresses"
            self.unread[f"{cut} were asked about"] = None
        for address in same_family[:_MOST_ADDRESSES]:
            if address == refused.source:
                continue
            expected = Tuple(
                address, refused.source_port, refused.destination, refused.destination_port
            )
            flow = self.flow("udp", expected)
            if flow is not None and not flow.seen_reply and flow.reply == expected:
                return flow
        return None

    def requests_of(self, client: str, port: int) -> tuple[Flow, ...]:
        """Return the unreplied UDP flows that a client began from one port of its own."""
        return self._walk(TupleMatch(source=client, source_port=port), mask=IPS_SEEN_REPLY)

    def awaited(self, protocol: str, way: Tuple) -> Optional[Awaited]:
        """Return the client behind NAT that a packet is for which came to this host itself.

        Or the one that sent it, to a server behind NAT. ``way`` is the packet, for which conntrack
        had no flow, and whose port nobody here has.
        """
        server, port = way.source, way.destination_port
        if protocol == "tcp":
            return self._of_ftp(way)
        asked = self._walk(TupleMatch(destination=server), mask=IPS_SEEN_REPLY)
        found = _first((f for f in asked if f.reply.destination_port == port), way, "other-port")
        if found is not None:
            return found
        match = TupleMatch(None, port, server, way.source_port)
        moved = (f for f in self._walk(match) if f.reply.destination_port != port)
        return _first(moved, way, "forgotten")

    def _of_ftp(self, way: Tuple) -> Optional[Awaited]:
        server = TupleMatch(destination=way.source, destination_port=FTP)
        if way.source_port == _FTP_DATA:
            return _first(self._walk(server, "tcp"), way, "data")
        if way.destination_port < OWN_PORTS:
            return None
        if time.monotonic() > self._asked + _FRESH:  # a scan of ports asks again and again
            every = TupleMatch(destination_port=FTP)
            self._sessions = self._walk(every, "tcp", most=_MOST_SESSIONS)
            self._asked = time.monotonic()
        theirs = (f for f in self._sessions if f.original.destination == way.source)
        own = (
            Awaited(f, "passive")
            for f in self._sessions
            if f.nat
            and (f.original.source, f.original.destination) == (way.source, way.destination)
            and f.reply.source != way.destination
        )
        return _first(theirs, way, "data") or next(own, None)

    def _walk(
        self, match: TupleMatch, protocol: str = "udp", mask: int = 0, most: int = _MOST_FLOWS
    ) -> tuple[Flow, ...]:
        """Return the flows that match and have none of the bits of ``mask``.

        A walk of the table, so bounded in rate.
        """
        if not self.open or not self._processor.left:
            return ()
        deadline = time.monotonic() + _PATIENCE
        try:
            with self._processor.pay(), Netlink(NETLINK_NETFILTER, deadline) as client:
                found = flows(client, protocol, match, status=0, mask=mask)
                return tuple(flow_of(entry) for entry in itertools.islice(found, most))
        except (OSError, Unreadable) as error:
            self.unread[f"conntrack flows: {error}"] = None
            return ()

    def takes_udp(self, local: tuple[str, int], remote: tuple[str, int], interface: int) -> bool:
        """Tell whether a socket takes a datagram; False where it cannot be told, too."""
        try:
            if self._sockets is None:
                self._sockets = Netlink(NETLINK_SOCK_DIAG)
            self._sockets.deadline = time.monotonic() + _PATIENCE
            return diag.by_tuple(self._sockets, "udp", local, remote, interface) is not None
        except (OSError, Unreadable) as error:
            self.unread[f"UDP sockets: {error}"] = None
            return False

    def close(self) -> None:
        """Close the sockets; safe to repeat."""
        for client in (self._client, self._sockets):
            if client is not None:
                client.close()
        self._client = self._sockets = None


def _first(found: Iterable[Flow], way: Tuple, why: Why) -> Optional[Awaited]:
    """Return the first flow to which NAT gave the address that a packet came to, of another's."""
    mine = (f for f in found if f.nat and f.reply.destination == way.destination)
    behind = (Awaited(f, why) for f in mine if f.original.source != way.destination)
    return next(behind, None)
