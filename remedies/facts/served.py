"""Which services that somebody keeps out of conntrack have a socket of their own here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remedies.errors import Unreadable
from remedies.facts.netfilter import Netfilter
from remedies.netlink import diag
from remedies.netlink.socket import NETLINK_SOCK_DIAG, Netlink
from remedies.rules.prefixes import parse
from remedies.rules.rule import PacketRule, PortRange
from remedies.values import dataclass

if TYPE_CHECKING:
    from remedies.facts import Asking

AFTER = ("netfilter",)

_MOST = 64
"""Services that are asked about: more are no rule for a few services."""


@dataclass(frozen=True)
class ServedEnd:
    """One service: ``tcp`` or ``udp``, address and port."""

    protocol: str
    address: str
    port: int


@dataclass(frozen=True)
class Served:
    """The services, among those that foreign notrack rules name, that a socket here serves."""

    ends: tuple[ServedEnd, ...] = ()
    """Each with a socket bound to that very address: one on every address says nothing about
    where the packets are meant to go."""


def ends_of(rule: PacketRule) -> tuple[ServedEnd, ...]:
    """Return the services that a rule is limited to, requests or answers; none where it is not."""
    match = rule.match
    found = _ends(match.protocols, match.destinations, match.destination_ports)
    return found or _ends(match.protocols, match.sources, match.source_ports)


def _ends(
    protocols: tuple[str, ...], addresses: tuple[str, ...], ports: tuple[PortRange, ...]
) -> tuple[ServedEnd, ...]:
    known = protocols and set(protocols) <= {"tcp", "udp"}
    plain = []
    for address in addresses:
        bits, _, size = parse(address)
        if bits != size:
            return ()
        plain.append(address.partition("/")[0])
    if not known or sum(last - first + 1 for first, last in ports) > _MOST:
        return ()
    return tuple(
        ServedEnd(protocol, address, port)
        for protocol in protocols
        for address in plain
        for first, last in ports
        for port in range(first, last + 1)
    )


def read(asking: Asking) -> Served:
    """Ask for the sockets; raise Unreadable where sock_diag does not answer."""
    earlier = asking.earlier(Netfilter)
    foreign = () if earlier is None else (rule for rule in earlier.notracks if not rule.ours)
    wanted = tuple(dict.fromkeys(end for rule in foreign for end in ends_of(rule)))[:_MOST]
    if not wanted:
        return Served()

    found = []
    try:
        with Netlink(NETLINK_SOCK_DIAG, asking.deadline()) as client:
            for end in wanted:
                nobody = ("::" if ":" in end.address else "0.0.0.0", 0)  # noqa: S104
                socket = diag.by_tuple(client, end.protocol, (end.address, end.port), nobody)
                if (
                    socket is not None
                    and socket.local == (end.address, end.port)
                    and (end.protocol == "udp" or socket.state == diag.LISTEN)
                ):
                    found.append(end)
    except OSError as error:
        raise Unreadable(f"sockets (sock_diag): {error.strerror}") from error
    return Served(tuple(found))
