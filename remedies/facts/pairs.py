"""Requests to a UDP server here and answers from elsewhere, paired by their flows. Pure.

Not a probe: ``scan`` and ``trace`` judge by it alike. conntrack knows an answer by the tuple that
it expects: from the address and port that NAT chose for the request, or that the client asked.
An answer from anywhere else begins a flow of its own, and neither flow sees a reply.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Optional

from remedies.facts.sockets import BoundSocket
from remedies.netlink.flow import Flow
from remedies.values import NamedTuple

_CLIENTS = 1024
"""A client's own port is no server's (RFC 6335, 6: System Ports). Below it two servers may talk."""


class Proof(NamedTuple):
    """A request to one local address that was, or is going to be, answered from another."""

    request: Flow
    reply: Optional[Flow]
    """The answer as conntrack saw it: a flow of its own."""
    source: str
    """The local address that the answer comes from."""

    @property
    def asked(self) -> str:
        """Return the local address that the request came to: the one that NAT chose, if any."""
        return self.request.reply.source

    @property
    def port(self) -> int:
        """Return the port here that the request came to."""
        return self.request.reply.source_port

    @property
    def apart(self) -> bool:
        """Tell whether the answer comes from a socket of its own, on another port."""
        return self.reply is not None and self.reply.original.source_port != self.port


def here(address: str, local: Collection[str]) -> bool:
    """Tell whether an address is this host's own: one of ``local``, or any of 127.0.0.0/8."""
    return address in local or address.startswith("127.")


def mirrored(unreplied: Iterable[Flow], local: Collection[str]) -> Iterator[Proof]:
    """Yield the pairs among UDP flows without a reply; ``local``: our addresses.

    The first flow of a pair came to one local address, the second leaves from another one for
    the same client and port: it is the answer, which conntrack could not match to the request.
    """
    flows = [flow for flow in unreplied if flow.protocol == "udp"]
    requests = _by_client(flows, local)
    for flow in flows:
        for request in _answered_by(flow, requests, local):
            if request.reply.source != flow.original.source:
                yield Proof(request, flow, flow.original.source)


def unanswered(unreplied: Iterable[Flow], local: Collection[str]) -> Iterator[Flow]:
    """Yield the UDP requests of others that no flow answers, from whichever address and port."""
    flows = [flow for flow in unreplied if flow.protocol == "udp"]
    requests = _by_client(flows, local)
    answered = {id(each) for flow in flows for each in _answered_by(flow, requests, local)}
    for waiting in requests.values():
        for flow in waiting:
            if id(flow) not in answered and not here(flow.original.source, local):
                yield flow


def _by_client(flows: Iterable[Flow], local: Collection[str]) -> dict[tuple[str, int], list[Flow]]:
    """Return the requests that came to a local address, by the client that answers go to."""
    found: dict[tuple[str, int], list[Flow]] = {}
    for flow in flows:
        back = flow.reply
        # A client of this host on the server's own port is one of two peers that talk.
        peers = here(back.destination, local) and back.source_port == back.destination_port
        if here(back.source, local) and not peers:
            found.setdefault((back.destination, back.destination_port), []).append(flow)
    return found


def _answered_by(
    answer: Flow, requests: dict[tuple[str, int], list[Flow]], local: Collection[str]
) -> list[Flow]:
    """Return the requests that a flow answers: from the port that was asked, else from another.

    A server of TFTP's kind answers from a new port. That is taken for an answer only where the
    client has asked one port and no other, from a port of its own.
    """
    way = answer.original
    if not here(way.source, local):
        return []
    asked = requests.get((way.destination, way.destination_port), [])
    same = [flow for flow in asked if flow.reply.source_port == way.source_port]
    if same:
        return [flow for flow in same if flow is not answer]
    ports = {flow.reply.source_port for flow in asked}
    if len(ports) != 1 or way.destination_port < _CLIENTS:
        return []
    return [flow for flow in asked if flow is not answer]


def deaf(socket: BoundSocket, unreplied: Iterable[Flow], local: Collection[str]) -> Iterator[Proof]:
    """Yield the requests that a connected socket's own client sends past it.

    They go to another local address than the one the socket has now, and no NAT brings them back.
    """
    for flow in unreplied:
        way = flow.original
        if (
            (way.source, way.source_port) == (socket.peer, socket.peer_port)
            and way.destination_port == socket.port
            and way.destination != socket.address
            and way.destination in local
            and not flow.nat
        ):
            yield Proof(flow, None, socket.address)
