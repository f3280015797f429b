"""A UDP server on the wildcard address answers from an address that its client did not ask.

What it detects
    A UDP socket bound to 0.0.0.0 or ``::``, without a peer and without IP_PKTINFO, on a host that
    its clients can reach by two addresses of one IP version or more: in two subnets, in one (a
    virtual IP, a temporary IPv6 address), or on the loopback interface, except 127.0.0.0/8. The
    kernel picks the source of a reply by the route to the client, so a container that asks the
    uplink's address is answered from the bridge's, and who asks a second address of one subnet
    is answered from the first.

Why it matters
    A client that called connect() takes datagrams from the address it asked and from no other: its
    kernel answers *port unreachable* and the program waits until it gives up. Unconnected clients
    (many resolvers) do not notice, which makes the fault look random.

Evidence
    - ``proven``: conntrack holds a mirrored pair, neither flow with a reply: client C port x asks
      local address H1 port p, and local address H2, port p, sends to C port x. The first is the
      request, the second the reply that conntrack could not match to it. Where NAT turned the
      request to this host (a Kubernetes service, a DNAT or REDIRECT rule), H1 is the address
      that NAT chose. An answer from another port of H2 (TFTP's way) counts where C has asked
      one port only. Whatever the socket says, and whether it is bound or asks for IP_PKTINFO: a
      server may receive by one socket and send by another, or send some answers without a source.
    - ``exposed``: the socket, the addresses, and no IP_PKTINFO: seen on the program's own socket
      through pidfd_getfd(2), which does not disturb it.
    - ``mitigated``: our redirect stands before its port, so that requests are addressed to the
      address that answers come from; or the pair is left of a fault that is mended: a socket is
      bound to the address asked, and none is left that could answer from another, or the server
      sets its replies' source; and its process began after the last wrong answer, or the same
      clients have been answered right since and not before.
    - ``unknown``: as exposed, but this user may not look at the socket.

    A container that is asked on one of its addresses and answers from another is no server of this
    host: ``remedy trace`` says so of its refused answer, and a scan of its own namespace
    (``--netns``, ``--all-netns``) finds it there.

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
    - Where the program itself changed how it answers, without a new process and without
      binding, the pair outlives its fault until such a client has been answered, or by
      ``nf_conntrack_udp_timeout`` (30 s).

References
    ip(7) and ipv6(7): IP_PKTINFO, IPV6_RECVPKTINFO. RFC 1122, 4.1.3.5 (a reply's source address).
    moby/moby#11998, moby/moby#15127, moby/moby#48571.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Optional

from remedies.facts import Facts
from remedies.facts.answerers import Answerer, Answerers
from remedies.facts.counters import Counters
from remedies.facts.flows import Flows
from remedies.facts.netfilter import Netfilter
from remedies.facts.routes import Routes
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
from remedies.printable import at
from remedies.rules.prefixes import contains

TITLE = "A UDP server answers from another address than it was asked on"
SYMPTOM = "a container gets no answer from a UDP service of its host (DNS, syslog, SNMP); others do"
SEVERITY: Severity = "high"
AREA = "UDP answers"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SI-2")
NEEDS = (Links, Sockets, Flows, Answerers, Sysctl, Counters, Netfilter, Routes)
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
    if not service.proofs and not _unsure(service):
        return None
    since = _mended(service) if service.proofs else ""
    covered = covering(facts, service.port, service.families)
    verdict, severity, message = _verdict(facts, service, bool(covered), since)
    if verdict in ("exposed", "unknown") and _silent(service, params):
        return None
    evidence = [
        *flow_evidence(facts.get(Flows), service.proofs),
        *_refusals(facts, service.family),
        *(() if server is None else _socket_evidence(server)),
        *_answering(service),
        *(Evidence(rule.resource, rule.interface, f"port {rule.port}") for rule in covered),
    ]
    by = since or (f"remedy {covered[0].resource}" if covered else "")
    return Finding(
        condition=condition,
        subject=_subject(service),
        verdict=verdict,
        severity=severity,
        message=message,
        evidence=tuple(evidence),
        mitigated_by=by if verdict == "mitigated" else None,
        details={
            **_details(facts, service),
            **for_redirect(links, service.families, () if since else service.proofs, covered),
        },
    )


def _unsure(service: Service) -> bool:
    """Tell whether nothing but luck makes a server answer from the address that it is asked on."""
    server = service.server
    return (
        server is not None
        and not service.pktinfo
        and server.spans(service.askable)
        and not _bound_everywhere(service)
    )


def _mended(service: Service) -> str:
    """Return what has been done about the proofs since, empty where nothing is known to be.

    A socket is bound to each address that was asked, and none is left that could answer from
    another; or the server sets its replies' source; or, where its UDP sockets are short-lived, it
    listens on TCP at the address asked and no other. Where there are other sockets still, or none
    is bound, either its process is younger than the last wrong answer, or the same clients have
    been answered right since.
    """
    asked = {proof.asked for proof in service.proofs}
    mine = [s for s in service.sockets if s.port == service.port and not s.peer]
    everywhere = [s for s in mine if s.protocol == "udp" and s.everywhere]
    bound, listening = service.bound, [s for s in mine if s.protocol == "tcp"]
    if asked <= {item.address for item in bound}:
        # The kernel hands a request to a socket of its address before one of every address.
        owners = [item.owner for item in bound]
        left = [s for s in everywhere if s.owner is None or s.owner in owners]
        untouched = not everywhere and not service.others
        if untouched or _later(service, (*bound, *service.others, *left)):
            where = ", ".join(sorted(at(item.address, item.port) for item in bound))
            return f"{who(bound[0].owner)}, bound to {where}"
    if everywhere and all(s.pktinfo for s in everywhere) and _later(service, everywhere):
        return f"{who(everywhere[0].owner)}, which sets its replies' source"
    if len(mine) == len(listening) and asked <= {item.address for item in listening}:
        first = next(item for item in listening if item.address in asked)
        if not any(item.everywhere for item in listening) and _later(service, listening):
            return f"{who(first.owner)}, which listens on TCP at {at(first.address, first.port)}"
    return ""


def _later(service: Service, sockets: Iterable[Answerer]) -> bool:
    """Tell whether sockets of now have nothing to do with the last wrong answer.

    Clients who got wrong answers have been answered right since, or the processes are younger.
    """
    return service.since or _younger(service, sockets)


def _younger(service: Service, sockets: Iterable[Answerer]) -> bool:
    """Tell whether the processes of sockets began after the last wrong answer was seen.

    conntrack tells whole seconds. Within that one a server is the younger one where it has
    answered somebody; the next wrong answer shows where that is not so.
    """
    if service.age is None:
        return False
    age = service.age + (1.0 if service.answered else 0.0)
    return all(s.age is not None and s.age < age for s in sockets)


def _subject(service: Service) -> str:
    """Return what the finding is about: a port on every address, or on the one bound to."""
    every = service.server is not None or not service.bound
    address = WILDCARD[service.family] if every else service.bound[0].address
    return f"udp {address}:{service.port}" if every else f"udp {at(address, service.port)}"


def _bound_everywhere(service: Service) -> bool:
    """Tell whether each address that clients can ask has a socket of its own, as with ntpd."""
    return all(service.own_sockets.issuperset(service.askable[each]) for each in service.families)


def _silent(service: Service, params: Mapping[str, object]) -> bool:
    """Tell whether the server takes datagrams and answers none: then it has no wrong source."""
    ports = params.get("silent_ports")
    return service.asked > 0 or (isinstance(ports, list) and service.port in ports)


def _verdict(
    facts: Facts, service: Service, covered: bool, since: str
) -> tuple[Verdict, Severity, str]:
    """Return verdict, severity and message."""
    server = service.server
    name = who(service.owner)
    if since:
        first = service.proofs[0]
        text = (
            f"{at(first.asked, first.port)} was answered from {first.source}; no such flow is in "
            f"use any more (last packet {_ago(service)}): {since} since then"
        )
        return "mitigated", "low", text
    if service.proofs:
        return "proven", SEVERITY, f"{_proven(service)}: a connected client drops that"
    everywhere = f"{name} listens on every address"
    if covered:
        text = f"{everywhere}; requests are redirected to the one that its answers come from"
        return "mitigated", "low", text
    if server is not None and server.pktinfo is None:
        return "unknown", "low", f"{everywhere}; whether it sets its reply's source is not known"
    severity: Severity = "low" if _ephemeral(facts, service.port) else "medium"
    return "exposed", severity, f"{everywhere} and lets the kernel pick its reply's source"


def _ago(service: Service) -> str:
    return "old" if service.age is None else f"{service.age:.0f} s old"


def _proven(service: Service) -> str:
    """Return who was asked where and answered from where, and by what, as far as it is known."""
    first, name = service.proofs[0], who(service.owner)
    way = first.request.original
    if service.server is None and service.owner is not None and not service.bound:
        name += _by_tcp(service)
    asked = f"was asked on {way.destination} port {way.destination_port}"
    if first.asked != way.destination or first.port != way.destination_port:
        asked += f", which NAT turns into {at(first.asked, first.port)},"
    answered = f"answered from {first.source}"
    if first.apart and first.reply is not None:
        answer = at(first.source, first.reply.original.source_port)
        return f"{name} {asked} and answers by a socket of its own, from {answer}"
    if service.server is None and service.bound:
        mine = f"{name} is bound to {at(first.asked, first.port)}, {asked} and"
        by = service.others[0].owner if service.others else None
        if by is not None and service.bound[0].owner not in (None, by):
            return f"{mine} {who(by)} {answered}"
        return f"{mine} {answered} by another socket"
    if service.pktinfo:
        return (
            f"{name} {asked} and {answered}, though it sets IP_PKTINFO: it sends some of its "
            "answers without a source"
        )
    return f"{name} {asked} and {answered}"


def _by_tcp(service: Service) -> str:
    """Return how a program is known whose UDP socket is gone: by its TCP listener."""
    udp = any(s.protocol == "udp" and s.owner == service.owner for s in service.sockets)
    return "" if udp else f", which listens on TCP port {service.port},"


def _refusals(facts: Facts, family: int) -> Iterator[Evidence]:
    """Yield how many *unreachable* errors came in: what a refusing client sends. A hint only."""
    group = "Icmp6" if family == 6 else "Icmp"
    delta = facts.get(Counters).delta(f"{group}.InDestUnreachs")
    if delta and facts.window > 0:
        note = f"in {facts.window:g} s, from any host, for any port"
        source = "/proc/net/snmp6" if family == 6 else "/proc/net/snmp"
        yield Evidence(source, f"{group} InDestUnreachs", f"+{delta}", note)


def _answering(service: Service) -> Iterator[Evidence]:
    """Yield the sockets behind the proofs that are bound to an address."""
    for item in (*service.bound, *service.others):
        whose = f"process {item.owner.pid}, {item.owner.name}" if item.owner else ""
        yield Evidence("sock_diag", "bound", at(item.address, item.port), whose)


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


def _uplink(facts: Facts, service: Service) -> str:
    """Return ADDRESS/LINK of a proof whose client is reached by the other one of two uplinks."""
    links, routes = facts.get(Links), facts.known.get("routes")
    if not isinstance(routes, Routes) or routes.policy_rules:
        return ""
    by = {item.address: links.name(item.link) for item in links.addresses}
    nets = [item.subnet for item in links.addresses]
    for proof in service.proofs:
        mine, other = by.get(proof.asked, ""), by.get(proof.source, "")
        family = 6 if ":" in proof.asked else 4
        ways = {name for way in routes.defaults if way.family == family for name in way.links}
        near = any(contains(net, proof.request.reply.destination) for net in nets)
        if mine != other and {mine, other} <= ways and not near:
            return f"{proof.asked}/{other}"
    return ""


def _details(facts: Facts, service: Service) -> dict[str, str]:
    """Return what fixes ask for: see :mod:`remedies.fixes.bind_advice`.

    ``server``: ``wildcard``, ``bound`` (to the address asked, it sends by another socket), or
    empty where no socket of it is to be seen. ``sends``: ``unsourced`` where the option is set and
    not used for each answer, ``other-socket`` where a bound server does not answer by the socket
    that was asked. ``uplink``: ADDRESS/LINK where the answers of a server bound to that address
    would still leave by that other link, though a default route leads out by the address's own.
    """
    asked = dict.fromkeys(proof.asked for proof in service.proofs)
    every = (service.askable[each] for each in service.families)
    askable = dict.fromkeys(address for each in every if len(each) > 1 for address in each)
    bound = service.server is None and bool(service.bound)
    return {
        "protocol": "udp",
        "family": str(service.family),
        "port": str(service.port),
        "addresses": " ".join(asked or askable),
        "asked": " ".join(asked),
        "server": "wildcard" if service.server is not None else "bound" if bound else "",
        "sends": ("other-socket" if bound else "unsourced" if service.pktinfo else "")
        if service.proofs
        else "",
        "uplink": _uplink(facts, service),
        **process_details(service.owner),
    }
