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
    - ``mitigated``: our redirect stands before its port, so that requests are addressed to the
      address that answers come from.
    - ``unknown``: as exposed, but this user may not look at the socket.

    docker-proxy has a condition of its own (``udp-proxy-hairpin``), and so has a server that
    connects to its client (``udp-connected-server``): neither is reported here.

False positives
    - A receiver that never answers (syslog, statsd) has the same socket. One that is asked while
      conntrack holds no answer of it, from any address, is silent and no finding; neither is one
      on a port of such a protocol (parameter ``silent_ports``). One that nobody asks, on another
      port, is ``exposed``: waive it.
    - A client's unconnected socket on a port that the kernel picked looks like a server's. Nothing
      outside the program tells them apart, so it is ``exposed`` too, with severity ``low`` where
      the port lies in ``net.ipv4.ip_local_port_range``.
    - A program that answers by a socket of its own for each address (ntpd) is no finding as long
      as every address has one; neither are the kernel's own sockets (VXLAN, WireGuard, NFS).
    - Two hosts that send to each other's fixed port without ever answering, over different
      addresses.
    - The pair outlives its fault by ``nf_conntrack_udp_timeout`` (30 s).

References
    ip(7) and ipv6(7): IP_PKTINFO, IPV6_RECVPKTINFO. RFC 1122, 4.1.3.5 (a reply's source address).
    moby/moby#11998, moby/moby#15127, moby/moby#48571.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts.counters import Counters
from remedies.facts.flows import Flows
from remedies.facts.netfilter import Netfilter
from remedies.facts.services import (
    Service,
    covering,
    flow_evidence,
    for_redirect,
    process_details,
    services,
    who,
)
from remedies.facts.sockets import Sockets, UdpSocket
from remedies.facts.sysctl import Sysctl
from remedies.model import Evidence, Finding, Severity, Verdict
from remedies.netlink.links import Links

TITLE = "A UDP server answers from another address than it was asked on"
SYMPTOM = "a container gets no answer from a UDP service of its host (DNS, syslog, SNMP); others do"
SEVERITY: Severity = "high"
NEEDS = (Links, Sockets, Flows, Sysctl, Counters, Netfilter)
PARAMS: Mapping[str, object] = {"silent_ports": [68, 162, 514, 546, 2055, 4739, 6343, 8125]}
"""``silent_ports``: DHCP's client, SNMP traps, syslog, DHCPv6's client, NetFlow, IPFIX, sFlow,
statsd: received, never answered (IANA's port numbers; statsd's README)."""

CONDITION = "udp-reply-source"
WILDCARD = {4: "0.0.0.0", 6: "[::]"}  # noqa: S104  # named, not bound


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return one finding for each wildcard server that is exposed, unreadable or proven."""
    found = (judge(facts, each, CONDITION, params) for each in services(facts) if not each.proxied)
    return tuple(finding for finding in found if finding is not None)


def judge(
    facts: Facts, service: Service, condition: str, params: Mapping[str, object] = PARAMS
) -> Optional[Finding]:
    """Return the finding on one service, None where nothing is wrong with it.

    The condition is this one, or that of docker-proxy, which has the same fault.
    """
    links, server = facts.get(Links), service.server
    if service.pktinfo:
        return None
    if not service.proofs and not (server is not None and server.spans(links)):
        return None
    if not service.proofs and _bound_everywhere(facts, service):
        return None
    covered = covering(facts, service.port, service.families)
    verdict, severity, message = _verdict(facts, service, bool(covered))
    if verdict in ("exposed", "unknown") and _silent(service, params):
        return None
    evidence = [
        *flow_evidence(facts.get(Flows), service.proofs),
        *_refusals(facts, service.family),
        *(() if server is None else _socket_evidence(server)),
        *(Evidence(rule.resource, rule.interface, f"port {rule.port}") for rule in covered),
    ]
    return Finding(
        condition=condition,
        subject=f"udp {WILDCARD[service.family]}:{service.port}",
        verdict=verdict,
        severity=severity,
        message=message,
        evidence=tuple(evidence),
        mitigated_by=f"remedy {covered[0].resource}" if verdict == "mitigated" else None,
        details={
            **_details(links, service),
            **for_redirect(links, service.families, service.proofs, covered),
        },
    )


def _bound_everywhere(facts: Facts, service: Service) -> bool:
    """Tell whether each address that clients can ask has a socket of its own, as with ntpd."""
    links = facts.get(Links)
    own = {item.address for item in facts.get(Sockets).bound if item.port == service.port}
    return all(item.address in own for each in service.families for item in links.reachable(each))


def _silent(service: Service, params: Mapping[str, object]) -> bool:
    """Tell whether the server takes datagrams and answers none: then it has no wrong source."""
    ports = params.get("silent_ports")
    return service.asked > 0 or (isinstance(ports, list) and service.port in ports)


def _verdict(facts: Facts, service: Service, covered: bool) -> tuple[Verdict, Severity, str]:
    """Return verdict, severity and message."""
    server = service.server
    name = who(None if server is None else server.owner)
    if service.proofs:
        first = service.proofs[0]
        text = (
            f"{name} was asked on {first.request.original.destination} port {service.port} and "
            f"answered from {first.source}: a connected client drops that"
        )
        return "proven", SEVERITY, text
    everywhere = f"{name} listens on every address"
    if covered:
        text = f"{everywhere}; requests are redirected to the one that its answers come from"
        return "mitigated", "low", text
    if server is not None and server.pktinfo is None:
        return "unknown", "low", f"{everywhere}; whether it sets its reply's source is not known"
    severity: Severity = "low" if _ephemeral(facts, service.port) else "medium"
    return "exposed", severity, f"{everywhere} and lets the kernel pick its reply's source"


def _refusals(facts: Facts, family: int) -> Iterator[Evidence]:
    """Yield how many *unreachable* errors came in: what a refusing client sends. A hint only."""
    group = "Icmp6" if family == 6 else "Icmp"
    delta = facts.get(Counters).delta(f"{group}.InDestUnreachs")
    if delta and facts.window > 0:
        note = f"in {facts.window:g} s, from any host, for any port"
        source = "/proc/net/snmp6" if family == 6 else "/proc/net/snmp"
        yield Evidence(source, f"{group} InDestUnreachs", f"+{delta}", note)


def _socket_evidence(server: UdpSocket) -> list[Evidence]:
    set_ = {True: "set", False: "not set", None: "not known"}[server.pktinfo]
    option = "IP_PKTINFO" if server.family == 4 else "IP_PKTINFO, IPV6_RECVPKTINFO"
    address = f"{WILDCARD[server.family]}:{server.port}"
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


def _details(links: Links, service: Service) -> dict[str, str]:
    """Return what fixes ask for: see :mod:`remedies.fixes.bind_advice`."""
    asked = dict.fromkeys(proof.request.original.destination for proof in service.proofs)
    reachable = dict.fromkeys(
        item.address
        for each in service.families
        if links.subnets(each) >= 2
        for item in links.reachable(each)
    )
    return {
        "protocol": "udp",
        "family": str(service.family),
        "port": str(service.port),
        "addresses": " ".join(asked or reachable),
        "asked": " ".join(asked),
        "server": "" if service.server is None else "wildcard",
        **process_details(None if service.server is None else service.server.owner),
    }
