"""Who serves the ports that wrong answers come from, asked only where there are such answers."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Asking, processes, sysctl
from remedies.facts.flows import Flows
from remedies.facts.pairs import Proof, mirrored
from remedies.facts.process import Process
from remedies.netlink import conntrack, conntrack_entry, diag
from remedies.netlink.links import Links
from remedies.netlink.socket import NETLINK_NETFILTER, NETLINK_SOCK_DIAG, Netlink
from remedies.values import dataclass

AFTER = ("links", "flows")

_PORTS = 16
_SOCKETS = 64
_PROOFS = 64
_ENDS = 8
_REPLIED = 1000

_End = tuple[str, int]


@dataclass(frozen=True)
class Answerer:
    """One socket on a port that was asked, or that an answer came from."""

    protocol: str
    """``udp``, or ``tcp`` for a listener: a program whose UDP sockets are short-lived has one."""
    address: str
    """``0.0.0.0`` or ``::`` for every address."""
    port: int
    peer: str = ""
    """Whom it is connected to, or empty."""
    owner: Optional[Process] = None
    pktinfo: Optional[bool] = None
    age: Optional[float] = None
    """Seconds since its process began; None where that is not known."""

    @property
    def everywhere(self) -> bool:
        """Tell whether it is bound to every address."""
        return self.address in ("0.0.0.0", "::")  # noqa: S104  # compared, not bound


@dataclass(frozen=True)
class Pair:
    """How long ago a wrong answer was seen last."""

    port: int
    """The port here that was asked."""
    age: float
    """Seconds, at least; less than one more."""
    answered: bool = False
    """Another client that asked the same address and port has been answered."""
    since: bool = False
    """Clients who got wrong answers have been answered right since, and were not before."""


@dataclass(frozen=True)
class Answerers:
    """Sockets and ages of the pairs that conntrack holds; empty where it holds none."""

    sockets: tuple[Answerer, ...] = ()
    pairs: tuple[Pair, ...] = ()
    unread: tuple[str, ...] = ()


def read(asking: Asking) -> Answerers:
    """Ask for the sockets of the ports in question, their processes, and the flows' ages."""
    links, flows = asking.earlier(Links), asking.earlier(Flows)
    local = links.local if links is not None else set()
    proofs = list(mirrored(flows.unreplied, local)) if flows is not None else []
    if not proofs:
        return Answerers()
    unread: list[str] = []
    return Answerers(
        _sockets(proofs, asking.deadline(), unread),
        _pairs(proofs[:_PROOFS], asking.deadline(), unread),
        tuple(dict.fromkeys(unread)),
    )


def _sockets(proofs: Iterable[Proof], deadline: float, unread: list[str]) -> tuple[Answerer, ...]:
    ports = {proof.port: None for proof in proofs}
    ports.update({p.reply.original.source_port: None for p in proofs if p.reply is not None})
    found: list[tuple[str, diag.Socket]] = []
    try:
        with Netlink(NETLINK_SOCK_DIAG, deadline) as client:
            for port in list(ports)[:_PORTS]:
                found += [("udp", item) for item in diag.by_local_port(client, "udp", port)]
                listening = (
                    item
                    for item in diag.by_local_port(client, "tcp", port)
                    if item.state == diag.LISTEN
                )
                found += [("tcp", item) for item in listening]
    except (OSError, Unreadable) as error:
        unread.append(f"sockets (sock_diag): {error}")
    found = found[:_SOCKETS]
    wanted = {item.inode: 6 if item.family == socket.AF_INET6 else 4 for _, item in found}
    seen, reasons = processes.look_up(wanted, deadline) if wanted else ({}, ())
    unread += reasons
    ages = {one.owner.pid: _age(one.owner.pid) for one in seen.values()}
    return tuple(_answerer(protocol, item, seen.get(item.inode), ages) for protocol, item in found)


def _answerer(
    protocol: str,
    item: diag.Socket,
    seen: Optional[processes.Seen],
    ages: dict[int, Optional[float]],
) -> Answerer:
    return Answerer(
        protocol,
        item.local[0].rpartition(":")[2] if "." in item.local[0] else item.local[0],  # mapped
        item.local[1],
        item.remote[0] if item.remote[1] else "",
        seen and seen.owner,
        seen.pktinfo if seen and protocol == "udp" else None,
        ages.get(seen.owner.pid) if seen else None,
    )


def _age(pid: int) -> Optional[float]:
    """Return how many seconds ago a process began (proc_pid_stat(5), field 22); None: unknown."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def _pairs(proofs: list[Proof], deadline: float, unread: list[str]) -> tuple[Pair, ...]:
    """Return, for each port, how long ago a request or an answer of a pair was seen last.

    A flow without a reply is forgotten ``nf_conntrack_udp_timeout`` after its last packet, and so
    is one that was answered, in its first seconds (nf_conntrack_udp_packet(), Linux 5.1). The
    seconds that are left are whole ones, so that the age may be one second less.
    """
    left: dict[Proof, int] = {}
    replied: dict[_End, list[conntrack_entry.Entry]] = {}
    try:
        whole = int(sysctl.value("net.netfilter.nf_conntrack_udp_timeout"))
        with Netlink(NETLINK_NETFILTER, deadline) as client:
            for proof in proofs:
                for flow in (proof.request, proof.reply):
                    if flow is None:
                        continue
                    entry = conntrack.flow_by_tuple(client, "udp", flow.original)
                    if entry is not None and entry.left is not None:
                        left[proof] = max(entry.left, left.get(proof, 0))
            for end in sorted({_end(proof) for proof in left})[:_ENDS]:
                asked = conntrack.TupleMatch(destination=end[0], destination_port=end[1])
                seen = conntrack_entry.IPS_SEEN_REPLY
                flows = conntrack.flows(client, "udp", asked, status=seen, mask=seen)
                replied[end] = list(itertools.islice(flows, _REPLIED))
    except (OSError, Unreadable, ValueError) as error:
        unread.append(f"ages of UDP flows: {error}")
        return ()
    found = []
    for port in dict.fromkeys(proof.port for proof in left):
        mine = [proof for proof in left if proof.port == port]
        last = max(left[proof] for proof in mine)
        answered = any(replied.get(_end(proof)) for proof in mine)
        age = max(0.0, whole - last - 1.0)
        found.append(Pair(port, age, answered, answered and _since(mine, replied, last, whole)))
    return tuple(found)


def _end(proof: Proof) -> _End:
    """Return the address and port that a client sent its request to."""
    return proof.request.original.destination, proof.request.original.destination_port


def _since(
    proofs: Iterable[Proof],
    replied: Mapping[_End, list[conntrack_entry.Entry]],
    last: int,
    whole: int,
) -> bool:
    """Tell whether clients who got wrong answers were answered right, and only after them.

    Each way (the address asked, the one that answered) needs an answer of its own: other clients
    may have been answered right all the time. ``last``: the seconds left to the youngest wrong
    answer. A flow that is assured may have been answered right before, too.
    """
    clients: dict[tuple[_End, str], set[str]] = {}
    for proof in proofs:
        clients.setdefault((_end(proof), proof.source), set()).add(proof.request.original.source)
    for (end, _), asking in clients.items():
        flows = [flow for flow in replied.get(end, ()) if flow.original.source in asking]
        if not flows or not all(
            not flow.status & conntrack_entry.IPS_ASSURED and last < (flow.left or 0) <= whole
            for flow in flows
        ):
            return False
    return True
