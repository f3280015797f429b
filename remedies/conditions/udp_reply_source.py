"""A UDP server on the wildcard address answers from an address that its client did not ask.

What it detects
    A UDP socket bound to 0.0.0.0 or ``::``, without a peer and without IP_PKTINFO, on a host that
    its clients can reach by addresses in two subnets or more. The kernel picks the source of a
    reply by the route to the client, so a container that asks the uplink's address is answered
    from the bridge's.

Why it matters
    A client that called connect() takes datagrams from the address it asked and from no other: its
    kernel answers *port unreachable* and the program waits until it gives up. Unconnected clients
    (many resolvers) do not notice, which makes the fault look random.

Evidence
    - ``proven``: conntrack holds a mirrored pair, neither flow with a reply: client C port x asks
      local address H1 port p, and local address H2, port p, sends to C port x. The first is the
      request, the second the reply that conntrack could not match to it.
    - ``exposed``: the socket, the subnets, and no IP_PKTINFO: seen on the program's own socket
      through pidfd_getfd(2), which does not disturb it.
    - ``unknown``: as exposed, but this user may not look at the socket.

False positives
    - A receiver that never answers (syslog, statsd) is ``exposed`` by its socket's shape: waive
      it.
    - A client's unconnected socket on a port that the kernel picked looks like a server's. Nothing
      outside the program tells them apart, so it is ``exposed`` too, with severity ``low`` where
      the port lies in ``net.ipv4.ip_local_port_range``.
    - A program that picks its reply's source without IP_PKTINFO (one more socket per address).
    - Two hosts that send to each other's fixed port without ever answering, over different
      addresses.
    - The pair outlives its fault by ``nf_conntrack_udp_timeout`` (30 s).

References
    ip(7) and ipv6(7): IP_PKTINFO, IPV6_RECVPKTINFO. RFC 1122, 4.1.3.5 (a reply's source address).
    moby/moby#11998, moby/moby#15127, moby/moby#48571.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Optional

from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.flows import Flow, Flows
from remedies.facts.links import Links
from remedies.facts.sockets import Process, Sockets, UdpSocket
from remedies.facts.sysctl import Sysctl
from remedies.model import Evidence, Finding

TITLE = "A UDP server answers from another address than it was asked on"
SEVERITY = "high"
NEEDS = (Links, Sockets, Flows, Sysctl, Counters)
PARAMS: Mapping[str, object] = {}

CONDITION = "udp-reply-source"
_WILDCARD = {4: "0.0.0.0", 6: "[::]"}  # noqa: S104  # named, not bound


class Pair(NamedTuple):
    """A request and the reply that left from another address."""

    request: Flow
    reply: Flow


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return one finding for each wildcard server that is exposed, unreadable or proven."""
    links = facts.get(Links)
    flows = facts.get(Flows)
    pairs = _by_service(mirrored(flows.unreplied, {item.address for item in links.addresses}))
    findings: list[Finding] = []
    for (family, port), group in _groups(facts.get(Sockets).wildcard).items():
        proofs = [pair for each in group[0].serves for pair in pairs.pop((each, port), [])]
        if any(item.pktinfo for item in group):
            continue
        if not proofs and not any(item.spans(links) for item in group):
            continue
        findings.append(_finding(facts, family, port, group[0], proofs))
    # A server that is gone, or has connected to its first client, still left its proof.
    findings += [
        _finding(facts, family, port, None, proofs) for (family, port), proofs in pairs.items()
    ]
    return tuple(findings)


def mirrored(unreplied: Iterable[Flow], local: set[str]) -> Iterator[Pair]:
    """Yield the mirrored pairs among UDP flows without a reply; ``local``: our addresses."""
    flows = [flow for flow in unreplied if flow.protocol == "udp"]
    asked: dict[tuple[str, int, int], Flow] = {}
    for flow in flows:
        way = flow.original
        if way.destination in local and way.source not in local:
            asked[way.source, way.source_port, way.destination_port] = flow
    for flow in flows:
        way = flow.original
        request = asked.get((way.destination, way.destination_port, way.source_port))
        if (
            request is not None
            and way.source in local
            and way.source != request.original.destination
        ):
            yield Pair(request, flow)


def _by_service(pairs: Iterable[Pair]) -> dict[tuple[int, int], list[Pair]]:
    """Return pairs by family and port of the server."""
    found: dict[tuple[int, int], list[Pair]] = {}
    for pair in pairs:
        way = pair.request.original
        found.setdefault((6 if ":" in way.destination else 4, way.destination_port), []).append(
            pair
        )
    return found


def _groups(sockets: Iterable[UdpSocket]) -> dict[tuple[int, int], list[UdpSocket]]:
    """Return sockets by family and port: several workers on one port are one server."""
    found: dict[tuple[int, int], list[UdpSocket]] = {}
    for item in sockets:
        found.setdefault((item.family, item.port), []).append(item)
    # The first speaks for its port: one that takes every interface, and that could be looked at.
    for group in found.values():
        group.sort(key=lambda item: (bool(item.device), item.pktinfo is None))
    return found


def _finding(
    facts: Facts, family: int, port: int, server: Optional[UdpSocket], proofs: list[Pair]
) -> Finding:
    owner = None if server is None else server.owner
    subject = f"udp {_WILDCARD[family]}:{port}"
    who = _who(owner)
    evidence = [*_flow_evidence(facts.get(Flows), proofs), *_refusals(facts, family)]
    if server is not None:
        evidence += _socket_evidence(server)
    if proofs:
        first = proofs[0]
        verdict, severity = "proven", SEVERITY
        message = (
            f"{who} was asked on {first.request.original.destination} port {port} and answered "
            f"from {first.reply.original.source}: a connected client drops that"
        )
    elif server is not None and server.pktinfo is None:
        verdict, severity = "unknown", "low"
        message = f"{who} listens on every address; whether it sets its reply's source is not known"
    else:
        verdict = "exposed"
        severity = "low" if _ephemeral(facts, port) else "medium"
        message = f"{who} listens on every address and lets the kernel pick its reply's source"
    return Finding(
        condition=CONDITION,
        subject=subject,
        verdict=verdict,
        severity=severity,
        message=message,
        evidence=tuple(evidence),
        details=_details(facts.get(Links), family, port, server, proofs),
    )


def _who(owner: Optional[Process]) -> str:
    if owner is None:
        return "a UDP server"
    place = f" in container {owner.container}" if owner.container else ""
    place = place or (f" ({owner.unit})" if owner.unit else "")
    return f"{owner.name}{place}"


def _flow_evidence(flows: Flows, proofs: list[Pair]) -> Iterator[Evidence]:
    for pair in proofs[:3]:
        yield Evidence("conntrack", "request", _text(pair.request), "no reply seen")
        yield Evidence("conntrack", "reply", _text(pair.reply), "another flow: no reply seen")
    if len(proofs) > 3:
        yield Evidence("conntrack", "pairs", str(len(proofs)), "three are shown")
    for reason in flows.unread:
        yield Evidence("conntrack", "not read", reason)
    if flows.truncated:
        yield Evidence("conntrack", "not read", f"more than {flows.limit} unreplied UDP flows")


def _refusals(facts: Facts, family: int) -> Iterator[Evidence]:
    """Yield how many *unreachable* errors came in: what a refusing client sends. A hint only."""
    group = "Icmp6" if family == 6 else "Icmp"
    delta = facts.get(Counters).delta(f"{group}.InDestUnreachs")
    if delta and facts.window > 0:
        note = f"in {facts.window:g} s, from any host, for any port"
        source = "/proc/net/snmp6" if family == 6 else "/proc/net/snmp"
        yield Evidence(source, f"{group} InDestUnreachs", f"+{delta}", note)


def _text(flow: Flow) -> str:
    """Return a flow's original tuple as conntrack(8) prints it."""
    way = flow.original
    return (
        f"udp src={way.source} dst={way.destination} sport={way.source_port} "
        f"dport={way.destination_port} [UNREPLIED]"
    )


def _socket_evidence(server: UdpSocket) -> list[Evidence]:
    set_ = {True: "set", False: "not set", None: "not known"}[server.pktinfo]
    option = "IP_PKTINFO" if server.family == 4 else "IP_PKTINFO, IPV6_RECVPKTINFO"
    address = f"{_WILDCARD[server.family]}:{server.port}"
    found = [Evidence("sock_diag", "local address", address), Evidence("getsockopt", option, set_)]
    if server.owner is not None:
        argv = " ".join(server.owner.argv) or server.owner.name
        found.append(Evidence("/proc", f"process {server.owner.pid}", argv))
    return found


def _ephemeral(facts: Facts, port: int) -> bool:
    """Tell whether the kernel gives out this port by itself (ip_local_port_range, v4 and v6)."""
    bounds = (facts.get(Sysctl).get("net.ipv4.ip_local_port_range") or "").split()
    return (
        len(bounds) == 2
        and bounds[0].isdigit()
        and bounds[1].isdigit()
        and (int(bounds[0]) <= port <= int(bounds[1]))
    )


def _details(
    links: Links, family: int, port: int, server: Optional[UdpSocket], proofs: list[Pair]
) -> dict[str, str]:
    """Return what a fix asks for: see :mod:`remedies.fixes.bind_advice`."""
    asked = dict.fromkeys(pair.request.original.destination for pair in proofs)
    families = (family,) if server is None else server.serves
    reachable = dict.fromkeys(
        item.address
        for each in families
        if links.subnets(each) >= 2
        for item in links.reachable(each)
    )
    details = {
        "protocol": "udp",
        "family": str(family),
        "port": str(port),
        "addresses": " ".join(asked or reachable),
        "asked": " ".join(asked),
    }
    owner = None if server is None else server.owner
    if owner is not None:
        details.update(
            process=owner.name, pid=str(owner.pid), unit=owner.unit, container=owner.container
        )
    return details
