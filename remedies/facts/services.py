"""UDP services as the facts show them: who serves a port, and what proves a wrong source. Pure.

Not a probe: the UDP conditions share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Optional

from remedies.facts import Facts
from remedies.facts.answerers import Answerer, Answerers
from remedies.facts.flows import Flows
from remedies.facts.netfilter import Netfilter
from remedies.facts.pairs import Proof, here, mirrored, unanswered
from remedies.facts.process import Process
from remedies.facts.sockets import Sockets, UdpSocket
from remedies.model import Evidence
from remedies.netfilter.redirects import Redirect
from remedies.netlink.flow import Flow
from remedies.netlink.links import Links
from remedies.printable import at
from remedies.rules.prefixes import contains
from remedies.values import dataclass, replace

PROXY = "docker-proxy"
"""The program that answers for published ports (moby, cmd/docker-proxy)."""
MOST_STALE = 100
"""Proofs whose flows are named one by one; the driver finds the others itself."""
AWAY = {4: "0.0.0.0", 6: "::"}  # noqa: S104  # named, not bound
"""Stands for the address of a link that is not there now."""


@dataclass(frozen=True)
class Service:
    """One port of one family, the socket that speaks for it, and the proofs against it."""

    family: int
    port: int
    server: Optional[UdpSocket]
    """None: gone, or not to be seen."""
    askable: Mapping[int, tuple[str, ...]]
    """As :meth:`Links.askable`."""
    proofs: tuple[Proof, ...] = ()
    pktinfo: bool = False
    """Some worker asks for IP_PKTINFO."""
    asked: int = 0
    """Flows of clients that nobody has answered, from any address and port."""
    sockets: tuple[Answerer, ...] = ()
    """Sockets of now on its port and on those that wrong answers came from."""
    age: Optional[float] = None
    """Seconds since the last wrong answer was seen, at least; None where that is not known."""
    answered: bool = False
    """Clients that ask the same have been answered, too."""
    own_sockets: frozenset[str] = frozenset()
    """Addresses of this host that have a socket of their own on its port."""
    since: bool = False
    """Clients who got wrong answers have been answered right since, and were not before."""

    @property
    def proxied(self) -> bool:
        """Tell whether docker-proxy serves it."""
        return self.owner is not None and self.owner.name == PROXY

    @property
    def owner(self) -> Optional[Process]:
        """Return the process to speak to: of the socket asked, else of a listener of the port."""
        if self.server is not None and self.server.owner is not None:
            return self.server.owner
        asked = {proof.asked for proof in self.proofs}
        mine = [item for item in self.sockets if item.port == self.port and item.owner]
        mine.sort(key=lambda item: (item.protocol != "udp", item.address not in asked))
        return mine[0].owner if mine else None

    @property
    def bound(self) -> tuple[Answerer, ...]:
        """Return the sockets that are bound to the very addresses that clients asked."""
        asked = {(proof.asked, proof.port) for proof in self.proofs}
        return tuple(
            item
            for item in self.sockets
            if item.protocol == "udp" and not item.peer and (item.address, item.port) in asked
        )

    @property
    def others(self) -> tuple[Answerer, ...]:
        """Return the sockets that are bound to the addresses that wrong answers came from."""
        sources = {
            (proof.source, proof.reply.original.source_port)
            for proof in self.proofs
            if proof.reply is not None
        }
        return tuple(
            item
            for item in self.sockets
            if item.protocol == "udp" and (item.address, item.port) in sources
        )

    @property
    def families(self) -> tuple[int, ...]:
        """Return the families whose clients it serves."""
        return (self.family,) if self.server is None else self.server.serves


def services(facts: Facts) -> tuple[Service, ...]:
    """Return every wildcard server, and every port that a proof is left of; raise Unreadable.

    The kernel's own sockets are none: its tunnels keep to the address they were asked on.
    A proof against a socket that has connected to its client is not among them.
    """
    links, sockets = facts.get(Links), facts.get(Sockets)
    local, askable = links.local, links.askable()
    bound: dict[int, set[str]] = {}
    for item in sockets.bound:
        bound.setdefault(item.port, set()).add(item.address)
    taken = {(s.address, s.port, s.peer, s.peer_port) for s in sockets.connected}
    pairs: dict[tuple[int, int], list[Proof]] = {}
    for proof in mirrored(facts.get(Flows).unreplied, local):
        answer = proof.reply.original if proof.reply is not None else None
        if proof.apart or answer is None or answer.parts not in taken:
            family = 6 if ":" in proof.source else 4
            pairs.setdefault((family, proof.port), []).append(proof)
    asked: dict[tuple[int, int], int] = {}
    for flow in unanswered(facts.get(Flows).unreplied, local):
        key = (6 if ":" in flow.reply.source else 4, flow.reply.source_port)
        asked[key] = asked.get(key, 0) + 1
    found = []
    servers = (item for item in sockets.wildcard if not item.kernel)
    for (family, port), group in _groups(servers).items():
        proofs = [p for each in group[0].serves for p in pairs.pop((each, port), [])]
        pktinfo = any(item.pktinfo for item in group)
        waiting = sum(asked.get((each, port), 0) for each in group[0].serves)
        own = frozenset(bound.get(port, ()))
        found.append(
            Service(
                family, port, group[0], askable, tuple(proofs), pktinfo, waiting, own_sockets=own
            )
        )
    found += [Service(*key, None, askable, tuple(proofs)) for key, proofs in pairs.items()]
    whole = (_with_answerers(facts, each) if each.proofs else each for each in found)
    return tuple(each for each in whole if not _peers(each))


def _peers(service: Service) -> bool:
    """Tell whether two programs only send to each other: nobody serves the port that was asked.

    What leaves from another port than the one asked (a stream of media) is no answer then.
    """
    apart = bool(service.proofs) and all(proof.apart for proof in service.proofs)
    return apart and service.server is None and not service.bound


def _with_answerers(facts: Facts, service: Service) -> Service:
    """Return a service with what is known about the sockets behind its proofs."""
    answerers = facts.known.get("answerers")
    if not isinstance(answerers, Answerers):
        return service
    ports = {service.port}
    ports.update(p.reply.original.source_port for p in service.proofs if p.reply is not None)
    pairs = [pair for pair in answerers.pairs if pair.port == service.port]
    return replace(
        service,
        sockets=tuple(item for item in answerers.sockets if item.port in ports),
        age=min((pair.age for pair in pairs), default=None),
        answered=any(pair.answered for pair in pairs),
        since=bool(pairs) and all(pair.since for pair in pairs),
    )


def _groups(sockets: Iterable[UdpSocket]) -> dict[tuple[int, int], list[UdpSocket]]:
    """Return sockets by family and port: several workers on one port are one server."""
    found: dict[tuple[int, int], list[UdpSocket]] = {}
    for item in sockets:
        found.setdefault((item.family, item.port), []).append(item)
    # The first speaks for its port: one that takes every interface, and that could be looked at.
    for group in found.values():
        group.sort(key=lambda item: (bool(item.device), item.pktinfo is None))
    return found


def covering(facts: Facts, port: int, families: Iterable[int]) -> tuple[Redirect, ...]:
    """Return our redirects of a port that are in force for one of ``families``."""
    netfilter = facts.known.get("netfilter")
    if not isinstance(netfilter, Netfilter):
        return ()
    return tuple(
        rule
        for rule in netfilter.redirects
        if rule.port == port and set(families) & set(rule.families)
    )


def for_redirect(
    links: Links, families: Iterable[int], proofs: Sequence[Proof], covered: Sequence[Redirect]
) -> dict[str, str]:
    """Return the details of a finding that the fix ``udp-redirect`` asks for.

    ``redirect``: ``LINK/ADDRESS`` for each interface that failing clients come in by, or that is
    covered already, with the address that answers come from; the wildcard where the link of a
    covered one is away (Docker makes its bridges anew at will). ``stale``: the flows that pin the
    old path, as addresses of the driver ``flow`` without its scheme.
    """
    if not proofs and not covered:
        return {"redirect": "", "stale": ""}
    local = links.local
    # A redirect stands before other NAT, does nothing about an answer from another port, and
    # does not meet what a program of this host sends.
    proofs = tuple(
        p
        for p in proofs
        if not p.request.nat and not p.apart and not here(p.request.original.source, local)
    )
    ways = {f"{name}/{p.source}" for p in proofs if (name := _way_in(p, links))}
    for rule in covered:
        for family in set(families) & set(rule.families):
            first = links.first(rule.interface, family)
            ways.add(f"{rule.interface}/{AWAY[family] if first is None else first.address}")
    stale: dict[str, None] = {}
    for proof in proofs[:MOST_STALE]:
        for flow in (proof.request, proof.reply):
            if flow is not None:
                way = flow.original
                ends = (way.source, way.source_port, way.destination, way.destination_port)
                stale["/".join(map(str, ("udp", *ends)))] = None
    return {"redirect": " ".join(sorted(ways)), "stale": " ".join(stale)}


def _way_in(proof: Proof, links: Links) -> str:
    """Return the link that a client's requests come in by, empty where that is not known.

    It is the one that its answers leave by, as long as the client is a neighbour on it.
    """
    client = proof.request.original.source
    for item in links.addresses:
        if item.address == proof.source and contains(item.subnet, client):
            return links.name(item.link)
    return ""


def who(owner: Optional[Process]) -> str:
    """Return a server's name for a message, with the container or unit it runs in."""
    if owner is None:
        return "a UDP server"
    place = f" in container {owner.container}" if owner.container else ""
    place = place or (f" ({owner.unit})" if owner.unit else "")
    return f"{owner.name}{place}"


def flow_evidence(flows: Flows, proofs: tuple[Proof, ...]) -> Iterator[Evidence]:
    """Yield the proofs as conntrack(8) prints them, three at most, and what was not read."""
    for proof in proofs[:3]:
        turned = f"no reply seen{_turned(proof)}"
        yield Evidence("conntrack", "request", flow_text(proof.request), turned)
        if proof.reply is not None:
            note = "another flow: no reply seen"
            yield Evidence("conntrack", "reply", flow_text(proof.reply), note)
    if len(proofs) > 3:
        yield Evidence("conntrack", "requests", str(len(proofs)), "three are shown")
    for reason in flows.unread:
        yield Evidence("conntrack", "not read", reason)
    if flows.truncated:
        yield Evidence("conntrack", "not read", f"more than {flows.limit} unreplied UDP flows")


def _turned(proof: Proof) -> str:
    """Return where NAT sends a request, for a note; empty where it goes where it was sent."""
    end = at(proof.asked, proof.port)
    way = proof.request.original
    return "" if end == at(way.destination, way.destination_port) else f"; NAT sends it to {end}"


def flow_text(flow: Flow) -> str:
    """Return a flow's original tuple as conntrack(8) prints it."""
    way = flow.original
    return (
        f"udp src={way.source} dst={way.destination} sport={way.source_port} "
        f"dport={way.destination_port} [UNREPLIED]"
    )


def process_details(owner: Optional[Process]) -> dict[str, str]:
    """Return the details of a finding that name its process; empty where it is not known."""
    if owner is None:
        return {}
    return {
        "process": owner.name,
        "pid": str(owner.pid),
        "unit": owner.unit,
        "container": owner.container,
        **({"pod": owner.pod} if owner.pod else {}),
        "argv": "\n".join(owner.argv),
    }
