"""rtnetlink: links, addresses, default routes, routing rules, and which way a packet would go.

Layouts are those of include/uapi/linux/{if_link,if_addr,rtnetlink,fib_rules}.h. Nothing here needs
a privilege.
"""

from __future__ import annotations

import socket
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import Optional

from remedies.errors import Unreadable
from remedies.netlink.socket import Message, Netlink, attribute, attributes
from remedies.values import NamedTuple

RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETRULE = 18, 22, 26, 34
_NEWLINK = 16
IFF_UP, IFF_LOOPBACK = 0x1, 0x8

_IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_EXT_MASK = 3, 4, 10, 18, 29
_IFLA_INFO_KIND = 1
_SKIP_STATS = 1 << 3  # RTEXT_FILTER_SKIP_STATS
_IFLA_AF_SPEC = 26
_CONFIGURATION = {int(socket.AF_INET): 1, int(socket.AF_INET6): 2}
"""IFLA_INET_CONF, IFLA_INET6_CONF: the settings of a family as an array of 32-bit numbers."""
_IFA_ADDRESS, _IFA_LOCAL, _IFA_PROTO = 1, 2, 11
IFAPROT_KERNEL_RA = 2
"""The kernel made the address, of a router's announcement."""
_RTA_DST, _RTA_SRC, _RTA_IIF, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 2, 3, 4, 5, 6
_RTA_PREFSRC, RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA = 7, 9, 15, 18
_RTA_MARK = 16
_RTN_UNICAST, RTN_LOCAL = 1, 2
_LOOKUP_TABLE = 0x1000  # RTM_F_LOOKUP_TABLE: say which table the answer is from (Linux 4.4)
_FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_PROTOCOL = 6, 10, 15, 21

_IFINFO = struct.Struct("=BxHiII")  # family, device type, index, flags, change
_IFADDR = struct.Struct("=BBBBI")  # family, prefix, flags, scope, index
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, ..., type, flags
_RULE = struct.Struct("=BBBBBxxBI")  # family, dst_len, src_len, tos, table, action, flags
_NEXTHOP = struct.Struct("=HBBi")  # length, flags, weight, interface

_ALL_LINKS = _IFINFO.pack(0, 0, 0, 0, 0) + attribute(_IFLA_EXT_MASK, struct.pack("=I", _SKIP_STATS))
FAMILIES = (socket.AF_INET, socket.AF_INET6)
# A kernel without IPv6 answers its dumps with IPv4 entries (rtnl_dump_all()), so each answer's
# family is looked at.


class RawLink(NamedTuple):
    """One interface; ``kind`` is empty for hardware and loopback."""

    number: int
    """Interface index."""
    name: str
    kind: str
    flags: int
    """IFF_* bits."""
    master: Optional[int]
    mtu: int = 0


class RawAddress(NamedTuple):
    """One local address."""

    family: int
    address: str
    prefix: int
    scope: int
    """RT_SCOPE_*: 0 universe, 253 link, 254 host."""
    link: int
    protocol: int = 0
    """IFAPROT_*: who made it (Linux 5.18)."""


class RawSettings(NamedTuple):
    """What net.ipv4.conf.LINK and net.ipv6.conf.LINK hold of one interface.

    By position: IPV4_DEVCONF_* less one (include/uapi/linux/ip.h) and DEVCONF_*
    (include/uapi/linux/ipv6.h). Empty where the family is off on it.
    """

    number: int
    """Interface index."""
    four: tuple[int, ...]
    six: tuple[int, ...]


class RawDefault(NamedTuple):
    """One default route; one entry of ``links`` per next hop."""

    family: int
    table: int
    metric: int
    links: tuple[int, ...]
    gateway: Optional[str]
    """Of the first next hop, None where it is on the link."""


class Route(NamedTuple):
    """The way that one packet would take."""

    kind: int
    """RTN_*: 1 unicast, 2 local, 6 blackhole, 7 unreachable, 8 prohibit."""
    table: int
    link: int
    """Index of the interface it leaves by; 0: none."""
    gateway: Optional[str]
    source: Optional[str]
    """The source address that a socket without one of its own would send from."""


class RawRule(NamedTuple):
    """One routing rule."""

    family: int
    priority: int
    table: int
    selective: bool
    """It looks at more than the family: a prefix, a type of service, an interface, a mark ..."""
    mark: int = 0
    """The mark that it asks for (or, inverted, asks not to be there); 0: none."""
    protocol: int = 0
    """Who added it: RTPROT_* of include/uapi/linux/rtnetlink.h."""


def _fields(layout: struct.Struct, payload: bytes) -> tuple[int, ...]:
    if len(payload) < layout.size:
        raise Unreadable(f"rtnetlink: message of {len(payload)} bytes")
    return layout.unpack_from(payload)


def _number(value: bytes) -> int:
    """Return a host-order integer of any width."""
    return int.from_bytes(value, sys.byteorder)


def _text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode(errors="replace")


def _address(family: int, value: bytes) -> str | None:
    size = {int(socket.AF_INET): 4, int(socket.AF_INET6): 16}.get(family)
    return socket.inet_ntop(family, value) if len(value) == size else None


def link(payload: bytes) -> RawLink:
    """Return the interface that a message describes; raise Unreadable where it is malformed."""
    _, _, index, flags, _ = _fields(_IFINFO, payload)
    name, kind, master, mtu = "", "", None, 0
    for number, value in attributes(payload, _IFINFO.size):
        if number == _IFLA_IFNAME:
            name = _text(value)
        elif number == _IFLA_MASTER:
            master = _number(value)
        elif number == _IFLA_MTU:
            mtu = _number(value)
        elif number == _IFLA_LINKINFO:
            kind = next((_text(v) for n, v in attributes(value) if n == _IFLA_INFO_KIND), "")
    return RawLink(index, name, kind, flags, master, mtu)


def settings_of(payload: bytes) -> RawSettings:
    """Return an interface's settings; raise Unreadable where the message is malformed."""
    _, _, index, _, _ = _fields(_IFINFO, payload)
    found: dict[int, tuple[int, ...]] = {}
    for number, value in attributes(payload, _IFINFO.size):
        for family, inner in attributes(value) if number == _IFLA_AF_SPEC else ():
            for each, array in attributes(inner) if family in _CONFIGURATION else ():
                if each == _CONFIGURATION[family]:
                    found[family] = struct.unpack(f"={len(array) // 4}i", array)
    return RawSettings(index, found.get(socket.AF_INET, ()), found.get(socket.AF_INET6, ()))


def configuration(client: Netlink) -> tuple[Message, ...]:
    """Return every interface with its settings, and every local address, as the kernel says it.

    Raises OSError and Unreadable.
    """
    found = client.table(RTM_GETLINK, _ALL_LINKS)
    return (*found, *client.table(RTM_GETADDR, _IFADDR.pack(*[0] * 5)))


def lasting(said: Iterable[Message]) -> int:
    """Return a number for what :func:`configuration` says, to be compared with another one.

    No timer, no lifetime and no traffic moves it, as they move the messages. Raises Unreadable
    where one is malformed. Pure.
    """
    kept = (_of_link(body) if kind == _NEWLINK else _of_address(body) for kind, body in said)
    return zlib.crc32(b"\n".join(sorted(kept)))


def _of_link(payload: bytes) -> bytes:
    _, _, index, flags, _ = _fields(_IFINFO, payload)
    kept = [b"link %d %d" % (index, flags)]
    for number, value in attributes(payload, _IFINFO.size):
        if number in (_IFLA_IFNAME, _IFLA_MASTER, _IFLA_MTU):
            kept.append(value)
        elif number == _IFLA_AF_SPEC:
            for family, inner in attributes(value):
                wanted = _CONFIGURATION.get(family)
                kept += [array for each, array in attributes(inner) if each == wanted]
    return b" ".join(kept)


def _of_address(payload: bytes) -> bytes:
    family, prefix, _, scope, index = _fields(_IFADDR, payload)
    kept = [b"address %d %d %d %d" % (family, prefix, scope, index)]
    for number, value in attributes(payload, _IFADDR.size):
        if number in (_IFA_ADDRESS, _IFA_LOCAL):
            kept.append(value)
    return b" ".join(kept)


def address(payload: bytes) -> RawAddress | None:
    """Return the address that a message describes; raise Unreadable where it is malformed."""
    family, prefix, _, scope, index = _fields(_IFADDR, payload)
    peer = local = None
    protocol = 0
    for number, value in attributes(payload, _IFADDR.size):
        if number == _IFA_ADDRESS:
            peer = _address(family, value)
        elif number == _IFA_LOCAL:
            local = _address(family, value)
        elif number == _IFA_PROTO:
            protocol = _number(value)
    # IFA_ADDRESS is the peer's on a point-to-point link; IFA_LOCAL, where there, is always ours.
    mine = local or peer
    if mine is None:
        return None
    return RawAddress(family, mine, prefix, scope, index, protocol)


def default_route(payload: bytes) -> RawDefault | None:
    """Return the default route that a message describes, None for any other route.

    Raises Unreadable where the message is malformed.
    """
    family, dst_len, _, _, table, _, _, kind, _ = _fields(_RTMSG, payload)
    if dst_len or kind != _RTN_UNICAST:
        return None
    metric, links, gateway = 0, [], None
    for number, value in attributes(payload, _RTMSG.size):
        if number == _RTA_OIF:
            links.append(_number(value))
        elif number == _RTA_PRIORITY:
            metric = _number(value)
        elif number == _RTA_TABLE:
            table = _number(value)
        elif number in (_RTA_GATEWAY, _RTA_VIA):
            gateway = _gateway(family, number, value)
        elif number == RTA_MULTIPATH:
            hops = list(_hops(family, value))
            links += [hop for hop, _ in hops]
            gateway = hops[0][1] if hops else gateway
    return RawDefault(family, table, metric, tuple(links), gateway)


def route(payload: bytes) -> Route:
    """Return the route that an answer describes; raise Unreadable where it is malformed."""
    family, _, _, _, table, _, _, kind, _ = _fields(_RTMSG, payload)
    link, gateway, source = 0, None, None
    for number, value in attributes(payload, _RTMSG.size):
        if number == _RTA_OIF:
            link = _number(value)
        elif number == _RTA_TABLE:
            table = _number(value)
        elif number in (_RTA_GATEWAY, _RTA_VIA):
            gateway = _gateway(family, number, value)
        elif number == _RTA_PREFSRC:
            source = _address(family, value)
    return Route(kind, table, link, gateway, source)


def route_get(
    client: Netlink,
    destination: str,
    source: Optional[str] = None,
    in_interface: Optional[int] = None,
    mark: int = 0,
) -> Route:
    """Ask which way a packet to ``destination`` would go, as ``ip route get`` does.

    ``source``: from this address; ``in_interface``: index of the link it arrives on, to be
    forwarded (IPv4 then wants a source); ``mark``: the packet's. Raises OSError with the kernel's
    refusal (ENETUNREACH: no route; EHOSTUNREACH, EACCES, EINVAL: a route that refuses), and
    Unreadable.
    """
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    width = 128 if family == socket.AF_INET6 else 32
    ask = _RTMSG.pack(family, width, width if source else 0, 0, 0, 0, 0, 0, _LOOKUP_TABLE)
    ask += attribute(_RTA_DST, socket.inet_pton(family, destination))
    if source:
        ask += attribute(_RTA_SRC, socket.inet_pton(family, source))
    if in_interface:
        ask += attribute(_RTA_IIF, struct.pack("=I", in_interface))
    if mark:
        ask += attribute(_RTA_MARK, struct.pack("=I", mark))
    for _, payload in client.request(RTM_GETROUTE, ask):
        return route(payload)
    raise Unreadable(f"rtnetlink: no answer about the route to {destination}")


def _gateway(family: int, number: int, value: bytes) -> str | None:
    """Return a next hop's address; RTA_VIA carries one of another family behind its number."""
    if number == _RTA_VIA:
        return _address(_number(value[:2]), value[2:])
    return _address(family, value)


def _hops(family: int, buffer: bytes) -> Iterator[tuple[int, Optional[str]]]:
    """Yield interface and gateway of each next hop of an RTA_MULTIPATH."""
    for interface, hop in next_hops(buffer):
        gateway = None
        for number, value in hop:
            if number in (_RTA_GATEWAY, _RTA_VIA):
                gateway = _gateway(family, number, value)
        yield interface, gateway


def next_hops(buffer: bytes) -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
    """Yield interface and attributes of each struct rtnexthop of an RTA_MULTIPATH."""
    offset = 0
    while len(buffer) - offset >= _NEXTHOP.size:
        length, _, _, interface = _NEXTHOP.unpack_from(buffer, offset)
        if length < _NEXTHOP.size or length > len(buffer) - offset:
            raise Unreadable(f"rtnetlink: next hop of length {length}")
        yield interface, list(attributes(buffer[offset : offset + length], _NEXTHOP.size))
        offset += length + 3 & ~3


def rule(payload: bytes) -> RawRule:
    """Return the routing rule that a message describes; raise Unreadable where it is malformed."""
    family, dst_len, src_len, tos, table, _, _ = _fields(_RULE, payload)
    priority = mark = protocol = 0
    selective = bool(dst_len or src_len or tos)
    for number, value in attributes(payload, _RULE.size):
        if number == _FRA_PRIORITY:
            priority = _number(value)
        elif number == _FRA_TABLE:
            table = _number(value)
        elif number == _FRA_PROTOCOL:
            protocol = _number(value)
        elif number in _SELECTORS:
            selective = True
            mark = _number(value) if number == _FRA_FWMARK else mark
    return RawRule(family, priority, table, selective, mark, protocol)


_SELECTORS = frozenset((3, 10, 12, 17, 19, 20, 22, 23, 24))
"""FRA_IIFNAME, FWMARK, TUN_ID, OIFNAME, L3MDEV, UID_RANGE, IP_PROTO, SPORT_RANGE, DPORT_RANGE."""


def links(client: Netlink) -> list[RawLink]:
    """Return every interface. Raises OSError and Unreadable, as the other readers here do."""
    return [link(payload) for _, payload in client.table(RTM_GETLINK, _ALL_LINKS)]


def settings(client: Netlink) -> list[RawSettings]:
    """Return the IP settings of every interface, in one dump."""
    return [settings_of(payload) for _, payload in client.table(RTM_GETLINK, _ALL_LINKS)]


def addresses(client: Netlink) -> list[RawAddress]:
    """Return every local address of both families."""
    found = [address(payload) for _, payload in client.table(RTM_GETADDR, _IFADDR.pack(*[0] * 5))]
    return [item for item in found if item is not None]


def default_routes(client: Netlink) -> list[RawDefault]:
    """Return the default routes of every table. A strict client leaves other types in the kernel.

    The kernel cannot filter by prefix, so a full routing table streams by once a family.
    """
    found: list[RawDefault] = []
    for family in FAMILIES:
        ask = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, _RTN_UNICAST, 0)
        for _, payload in client.dump(RTM_GETROUTE, ask):
            if payload[:2] != bytes((family, 0)):  # another family, or a prefix longer than 0
                continue
            route = default_route(payload)
            if route is not None:
                found.append(route)
    return found


def rules(client: Netlink) -> list[RawRule]:
    """Return the routing rules of both families."""
    found: list[RawRule] = []
    for family in FAMILIES:
        ask = _RULE.pack(family, 0, 0, 0, 0, 0, 0)
        answers = [rule(payload) for _, payload in client.table(RTM_GETRULE, ask)]
        found += [item for item in answers if item.family == family]
    return found
