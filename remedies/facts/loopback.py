"""Services on 127.0.0.0/8 that a link lets others ask, and whether the firewall keeps them out.

Where no link is set so (``route_localnet``), nothing is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Optional

from remedies.errors import Unreadable
from remedies.facts import processes
from remedies.facts.netfilter import open_stores
from remedies.facts.pairs import here
from remedies.facts.process import Process
from remedies.facts.switches import Switches
from remedies.facts.sysctl import Sysctl
from remedies.netfilter.lost import fate
from remedies.netfilter.stores import RuleStore
from remedies.netlink.diag import LISTEN, Socket, by_local_port, with_queue
from remedies.netlink.links import Link, Links
from remedies.netlink.socket import NETLINK_SOCK_DIAG, Netlink
from remedies.rules.packet_words import NOT_TURNED, PacketKnowledge
from remedies.rules.rule import Match, PacketRule
from remedies.values import dataclass

if TYPE_CHECKING:
    from remedies.facts import Asking

AFTER = ("links", "switches", "sysctl")

ALL = "net.ipv4.conf.all.route_localnet"
_LOOPBACK = "127."
_MOST_LINKS = 8
_MOST_SERVICES = 16
_MOST_PEERS = 4
_HOOKS = ("prerouting", "input")


@dataclass(frozen=True)
class LoopbackDoor:
    """One TCP service of this host's loopback that packets by one link reach."""

    link: str
    address: str
    port: int
    owner: Optional[Process] = None
    kept_out_by: Optional[PacketRule] = None
    """The rule that surely drops what comes by that link; with ``peers``, of theirs as well."""
    doubts: tuple[str, ...] = ()
    """What could not be judged of rules that may drop it."""
    peers: tuple[str, ...] = ()
    """Addresses of others that have a connection to it now, be it one that no packet gets to."""


@dataclass(frozen=True)
class Loopback:
    """What of the loopback is open to links."""

    doors: tuple[LoopbackDoor, ...] = ()
    unread: tuple[str, ...] = ()


def read(asking: Asking) -> Loopback:
    """Read the fact. Raises Unreadable where sockets or rules cannot be read."""
    links, switches, sysctl = (
        asking.earlier(Links),
        asking.earlier(Switches),
        asking.earlier(Sysctl),
    )
    if links is None or switches is None or sysctl is None:
        raise Unreadable("links, their settings or sysctls were not read")
    every = sysctl.get(ALL) == "1"
    opened = list(_open(links, switches, every=every))[:_MOST_LINKS]
    if not opened:
        return Loopback()
    try:
        with Netlink(NETLINK_SOCK_DIAG, asking.deadline()) as client:
            services = [
                each for each in with_queue(client, "tcp") if each.local[0].startswith(_LOOPBACK)
            ][:_MOST_SERVICES]
            peers = {each.local: _peers(client, each.local, links) for each in services}
    except OSError as error:
        raise Unreadable(f"TCP sockets (sock_diag): {error.strerror}") from error
    if not services:
        return Loopback()
    seen, unread = processes.look_up({each.inode: 4 for each in services}, asking.deadline())
    stores, unread_rules = open_stores(asking.deadline())
    return Loopback(
        tuple(
            LoopbackDoor(
                link.name,
                *each.local,
                seen[each.inode].owner if each.inode in seen else None,
                *_kept_out(stores, links, link, each, inside=bool(peers[each.local])),
                peers[each.local],
            )
            for link in opened
            for each in services
            if each.interface in (0, link.index)
        ),
        (*unread, *unread_rules),
    )


def _open(links: Links, switches: Switches, *, every: bool) -> Iterator[Link]:
    """Yield the links that have an IPv4 address and take packets for the loopback's addresses."""
    addressed = {item.link for item in links.addresses if item.family == 4}
    for link in links.links:
        own = switches.of(link.name)
        opens = every or (own is not None and own.route_localnet)
        if opens and link.up and not link.loopback and link.index in addressed:
            yield link


def _peers(client: Netlink, local: tuple[str, int], links: Links) -> tuple[str, ...]:
    """Return who else than this host has a connection to a service."""
    own = links.local
    return tuple(
        dict.fromkeys(
            each.remote[0]
            for each in by_local_port(client, "tcp", local[1])
            if each.local == local
            and each.state != LISTEN
            and not each.remote[0].startswith(_LOOPBACK)
            and not here(each.remote[0], own)
        )
    )[:_MOST_PEERS]


def _kept_out(
    stores: Iterable[RuleStore], links: Links, link: Link, service: Socket, *, inside: bool
) -> tuple[Optional[PacketRule], tuple[str, ...]]:
    """Return the rule that drops what the neighbours of a link send to a service, and doubts.

    ``inside``: who is connected already has to be kept out, too, or it is not closed.
    """
    address, port = service.local
    packet = Match(
        protocols=("tcp",),
        sources=tuple(
            item.subnet for item in links.addresses if item.link == link.index and item.family == 4
        ),
        destinations=(f"{address}/32",),
        destination_ports=((port, port),),
        in_interfaces=(link.name,),
        destination_local=True,
        source_local=False,
        states=("established" if inside else "new",),
    )
    rule, doubts = fate(stores, packet, "ip", _HOOKS, PacketKnowledge(NOT_TURNED))
    return rule, doubts if rule is None else ()
