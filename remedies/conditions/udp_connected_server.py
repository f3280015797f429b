"""A UDP server connects to its first client and is deaf to what that client sends next.

What it detects
    A connected UDP socket with a local address that its client never asked. Some servers
    (``nc -u -l`` is the known one) call connect() once the first datagram is there. The kernel
    then gives the socket the address it would send from, by the route to the client: a container
    that asked the uplink's address meets a socket on the bridge's.

Why it matters
    From the second datagram on nothing arrives: no socket has the address that the client asks,
    and the host answers *port unreachable*. What the server sends comes from an address that the
    client did not ask, and is refused there.

Evidence
    - ``proven``: the socket, connected to client C port x, and a flow without a reply from the
      same C port x to the socket's port on another local address.
    - ``mitigated``: as before, but our redirect stands before that port, and the client's
      datagrams reach the socket.

False positives
    A socket that a program of this host opened to ask C is connected, too. It becomes a finding
    only where C, from the very port it is asked on, sends to the same port of another local
    address. The flow outlives its fault by ``nf_conntrack_udp_timeout`` (30 s).

References
    connect(2): a datagram socket's peer; net/ipv4/datagram.c (__ip4_datagram_connect() sets the
    local address from the route); nc(1)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.facts.flows import Flows
from remedies.facts.netfilter import Netfilter
from remedies.facts.pairs import Proof, deaf
from remedies.facts.services import (
    covering,
    flow_evidence,
    for_redirect,
    process_details,
    who,
)
from remedies.facts.sockets import BoundSocket, Sockets
from remedies.model import Evidence, Finding, Severity
from remedies.netlink.links import Links

TITLE = "A UDP server that connected to its client no longer hears it"
SYMPTOM = "the first UDP datagram is answered, the next ones are refused (nc -u -l)"
SEVERITY: Severity = "high"
AREA = "UDP answers"
CONTROLS = ("NIST-800-53 CM-6", "NIST-800-53 SI-2")
NEEDS = (Links, Sockets, Flows, Netfilter)
PARAMS: Mapping[str, object] = {}


def detect(facts: Facts, params: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return one finding for each address and port whose connected sockets are proven deaf.

    Raises Unreadable where there are such sockets, and the flows that could prove it are unread.
    """
    local = facts.get(Links).local
    unreplied = [flow for flow in facts.get(Flows).unreplied if flow.protocol == "udp"]
    places: dict[tuple[str, int], list[BoundSocket]] = {}
    for socket in facts.get(Sockets).connected:
        places.setdefault((socket.address, socket.port), []).append(socket)
    found = []
    for sockets in places.values():
        proofs = tuple(proof for each in sockets for proof in deaf(each, unreplied, local))
        found.append(_finding(facts, sockets, proofs))
    unread = facts.get(Flows).unread
    if places and unread and not any(found):
        raise Unreadable(unread[0])
    return tuple(finding for finding in found if finding is not None)


def _finding(
    facts: Facts, sockets: list[BoundSocket], proofs: tuple[Proof, ...]
) -> Optional[Finding]:
    """Return the finding on the sockets of one address and port, None where nothing is wrong."""
    links, first = facts.get(Links), sockets[0]
    family = 6 if ":" in first.address else 4
    rules = covering(facts, first.port, (family,))
    covered = tuple(rule for rule in rules if _carries(links, rule.interface, first.address))
    if not proofs and not covered:
        return None
    name = who(first.owner)
    where = f"{first.address} port {first.port}"
    if proofs:
        asked = proofs[0].request.original
        message = (
            f"{name} connected to {asked.source} as {where}, and does not hear what that client "
            f"sends to {asked.destination}"
        )
    else:
        message = f"{name} connected to {first.peer} as {where}; requests are redirected there"
    asked_on = dict.fromkeys(proof.request.original.destination for proof in proofs)
    return Finding(
        condition="udp-connected-server",
        subject=f"udp {f'[{first.address}]' if family == 6 else first.address}:{first.port}",
        verdict="proven" if proofs else "mitigated",
        severity=SEVERITY if proofs else "low",
        message=message,
        evidence=(
            *flow_evidence(facts.get(Flows), proofs),
            *(_socket_evidence(each) for each in sockets[:3]),
        ),
        mitigated_by=None if proofs else f"remedy {covered[0].resource}",
        details={
            "protocol": "udp",
            "family": str(family),
            "port": str(first.port),
            "addresses": " ".join(asked_on or (first.address,)),
            "asked": " ".join(asked_on),
            "server": "connected",
            **process_details(first.owner),
            **for_redirect(links, (family,), proofs, covered),
        },
    )


def _carries(links: Links, name: str, address: str) -> bool:
    return any(
        item.address == address and links.name(item.link) == name for item in links.addresses
    )


def _socket_evidence(socket: BoundSocket) -> Evidence:
    owner = f"process {socket.owner.pid}, {socket.owner.name}" if socket.owner else ""
    return Evidence(
        "sock_diag",
        "connected",
        f"{socket.address} port {socket.port} to {socket.peer} port {socket.peer_port}",
        owner,
    )
