"""ctnetlink: the few flows a question needs, filtered in the kernel where it can.

Messages and attributes are those of include/uapi/linux/netfilter/nfnetlink_conntrack.h, status
bits those of nf_conntrack_common.h beside it. Nothing here changes an entry or its counters
(IPCTNL_MSG_CT_GET_CTRZERO is never sent) but :func:`delete`. Reading flows needs CAP_NET_ADMIN.
Asking loads the ``nf_conntrack_netlink`` module; callers ask only where conntrack is there
already.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from typing import Optional

from remedies.errors import Unreadable
from remedies.netlink.flow import Flow, Tuple
from remedies.netlink.socket import Netlink, attribute, attributes, nested
from remedies.values import NamedTuple

_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK in the high byte
IPCTNL_MSG_CT_GET = _SUBSYSTEM | 1
IPCTNL_MSG_CT_DELETE = _SUBSYSTEM | 2

IPS_SEEN_REPLY = 1 << 1
IPS_ASSURED = 1 << 2
IPS_SRC_NAT = 1 << 4
IPS_DST_NAT = 1 << 5

PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_NAMES = {int(number): name for name, number in PROTOCOLS.items()}

_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _TIMEOUT, _ID = 1, 2, 3, 7, 12
_FILTER, _STATUS_MASK = 25, 26
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_V4_SRC, _IP_V4_DST, _IP_V6_SRC, _IP_V6_DST = 1, 2, 3, 4
_PROTO_NUM, _PROTO_SRC_PORT, _PROTO_DST_PORT = 1, 2, 3
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
# CTA_FILTER_F_*: IP_SRC, IP_DST, PROTO_NUM, PROTO_SRC_PORT, PROTO_DST_PORT (nf_internals.h)
_BY_SOURCE, _BY_DESTINATION, _BY_PROTOCOL, _BY_SOURCE_PORT, _BY_DESTINATION_PORT = 1, 2, 8, 16, 32

_REFUSED = (errno.EOPNOTSUPP, errno.EINVAL)

PROTO_HEADER = struct.pack("=HH", 5, _PROTO_NUM)
_PORT_HEADER = struct.pack("=HH", 6, _PROTO_DST_PORT)


class _TupleLayout(NamedTuple):
    """Offsets into a message, counted from its struct nfgenmsg."""

    destination: int
    end: int
    protocol: int
    port: int
    """Of the destination port's attribute header."""


# Where ctnetlink_fill_info() puts the original tuple of an IPv4 or IPv6 entry of a protocol with
# ports: what the fast path needs. An entry that does not look so is parsed attribute by attribute.
LAYOUTS = {
    int(socket.AF_INET): _TupleLayout(24, 28, 36, 48),
    int(socket.AF_INET6): _TupleLayout(36, 52, 60, 72),
}


class TupleMatch(NamedTuple):
    """What a flow's original direction has to be; None: anything."""

    source: Optional[str] = None
    source_port: Optional[int] = None
    destination: Optional[str] = None
    destination_port: Optional[int] = None


ANY = TupleMatch()


class Entry(NamedTuple):
    """One tracked connection."""

    protocol: str
    original: Tuple
    reply: Tuple
    status: int
    """IPS_* bits."""
    left: Optional[int] = None
    """Seconds until it is forgotten, unless a packet comes; None: not said."""


def flow_of(entry: Entry) -> Flow:
    """Return an entry as the value that facts hold."""
    return Flow(
        protocol=entry.protocol,
        original=entry.original,
        reply=entry.reply,
        seen_reply=bool(entry.status & IPS_SEEN_REPLY),
        nat=bool(entry.status & (IPS_SRC_NAT | IPS_DST_NAT)),
        assured=bool(entry.status & IPS_ASSURED),
    )


def _family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _header(family: int) -> bytes:
    """Return struct nfgenmsg: family, NFNETLINK_V0, resource 0."""
    return struct.pack("=BBH", family, 0, 0)


def _tuple(kind: int, protocol: int, way: Tuple | TupleMatch) -> bytes:
    """Return a CTA_TUPLE_* of what is set in ``way``."""
    inside = []
    ends = [end for end in (way.source, way.destination) if end is not None]
    if ends:
        v6 = _family_of(ends[0]) == socket.AF_INET6
        kinds = (_IP_V6_SRC, _IP_V6_DST) if v6 else (_IP_V4_SRC, _IP_V4_DST)
        inside.append(
            nested(
                _TUPLE_IP,
                *(
                    attribute(kind, socket.inet_pton(_family_of(end), end))
                    for kind, end in zip(kinds, (way.source, way.destination))
                    if end is not None
                ),
            )
        )
    ports = ((_PROTO_SRC_PORT, way.source_port), (_PROTO_DST_PORT, way.destination_port))
    inside.append(
        nested(
            _TUPLE_PROTO,
            attribute(_PROTO_NUM, bytes([protocol])),
            *(attribute(kind, struct.pack(">H", n)) for kind, n in ports if n is not None),
        )
    )
    return nested(kind, *inside)


def _way(buffer: bytes) -> tuple[int, Tuple]:
    """Return protocol number and direction of a CTA_TUPLE_*'s content."""
    protocol, ports, ends = 0, [0, 0], ["", ""]
    for kind, value in attributes(buffer):
        if kind == _TUPLE_IP:
            for end, address in attributes(value):
                if len(address) == 4 and end in (_IP_V4_SRC, _IP_V4_DST):
                    ends[end - _IP_V4_SRC] = socket.inet_ntop(socket.AF_INET, address)
                elif len(address) == 16 and end in (_IP_V6_SRC, _IP_V6_DST):
                    ends[end - _IP_V6_SRC] = socket.inet_ntop(socket.AF_INET6, address)
        elif kind == _TUPLE_PROTO:
            for part, number in attributes(value):
                if part == _PROTO_NUM and number:
                    protocol = number[0]
                elif part in (_PROTO_SRC_PORT, _PROTO_DST_PORT) and len(number) == 2:
                    ports[part - _PROTO_SRC_PORT] = int.from_bytes(number, "big")
    return protocol, Tuple(ends[0], ports[0], ends[1], ports[1])


def entry(payload: bytes) -> Entry | None:
    """Return the entry that a message describes, None where it is neither TCP nor UDP.

    Raises Unreadable where the message is malformed.
    """
    protocol, status = 0, 0
    left: Optional[int] = None
    original = reply = Tuple("", 0, "", 0)
    for kind, value in attributes(payload, 4):
        if kind == _TUPLE_ORIG:
            protocol, original = _way(value)
        elif kind == _TUPLE_REPLY:
            _, reply = _way(value)
        elif kind == _STATUS and len(value) == 4:
            status = int.from_bytes(value, "big")
        elif kind == _TIMEOUT and len(value) == 4:
            left = int.from_bytes(value, "big")
    name = _NAMES.get(protocol)
    return None if name is None else Entry(name, original, reply, status, left)


def _dump(client: Netlink, family: int, *narrow: bytes) -> Iterator[bytes]:
    """Yield the messages of a dump; more than asked for where the kernel cannot narrow it.

    A kernel that does not know an attribute either ignores or refuses it: the caller looks at
    each entry anyway.
    """
    for parts in (narrow, ()):
        try:
            for _, payload in client.dump(IPCTNL_MSG_CT_GET, _header(family) + b"".join(parts)):
                yield payload
            return
        except OSError as error:
            if error.errno not in _REFUSED or not parts:
                raise


def _by_status(status: int, mask: int) -> tuple[bytes, bytes]:
    """Return what narrows a dump to entries with these status bits (CTA_STATUS_MASK, Linux 6.0)."""
    return (
        attribute(_STATUS, struct.pack(">I", status)),
        attribute(_STATUS_MASK, struct.pack(">I", mask)),
    )


def _by_tuple(protocol: str, match: TupleMatch) -> tuple[bytes, bytes]:
    """Return what narrows a dump to a protocol and parts of a tuple (CTA_FILTER, Linux 5.8).

    IPv6 addresses are left to the caller: the kernel's comparison of them is the wrong way round
    (ctnetlink_filter_match_tuple(), ``!ipv6_addr_cmp()``, seen on 6.18).
    """
    if ":" in (match.source or match.destination or ""):
        match = match._replace(source=None, destination=None)
    flags = _BY_PROTOCOL
    for flag, wanted in zip(
        (_BY_SOURCE, _BY_SOURCE_PORT, _BY_DESTINATION, _BY_DESTINATION_PORT), match
    ):
        flags |= flag if wanted is not None else 0
    return (
        _tuple(_TUPLE_ORIG, PROTOCOLS[protocol], match),
        nested(
            _FILTER,
            attribute(_FILTER_ORIG_FLAGS, struct.pack("=I", flags)),
            attribute(_FILTER_REPLY_FLAGS, struct.pack("=I", 0)),
        ),
    )


def flows(
    client: Netlink, protocol: str, match: TupleMatch = ANY, *, status: int = 0, mask: int = 0
) -> Iterator[Entry]:
    """Yield the entries of ``tcp`` or ``udp`` that match, as the kernel sends them.

    ``mask`` says which IPS_* bits count, ``status`` what they have to be. The kernel narrows the
    dump where it can; every entry is looked at once more here. A walk of the table costs more than
    what it yields: an address spares the walk of the other family, and bits alone are asked for in
    one walk, whose other protocols are dropped unread. Raises OSError (EPERM without
    CAP_NET_ADMIN) and Unreadable.
    """
    bits = _by_status(status, mask) if mask else ()
    address = match.source or match.destination
    if mask and match == ANY:
        walks = [(int(socket.AF_UNSPEC), bits)]
    else:
        families = [_family_of(address)] if address else [socket.AF_INET, socket.AF_INET6]
        walks = [(int(family), (*_by_tuple(protocol, match), *bits)) for family in families]
    number = PROTOCOLS[protocol]
    for family, narrow in walks:
        for payload in _dump(client, family, *narrow):
            if _protocol(payload) not in (number, None):
                continue
            found = entry(payload)
            if (
                found is not None
                and found.protocol == protocol
                and found.status & mask == status & mask
                and family in (socket.AF_UNSPEC, _family_of(found.original.source))
                and all(want in (None, got) for want, got in zip(match, found.original.parts))
            ):
                yield found


def unreplied_udp(client: Netlink) -> Iterator[Entry]:
    """Yield the UDP entries that have seen no reply, as the kernel sends them.

    One walk of the table for both families, narrowed to the status bit: the walk itself costs
    most, so that :func:`flows`, which needs one per family, would not pay.
    Raises OSError (EPERM without CAP_NET_ADMIN) and Unreadable.
    """
    for payload in _dump(client, socket.AF_UNSPEC, *_by_status(0, IPS_SEEN_REPLY)):
        if service(payload) is not None:
            found = entry(payload)
            if found is not None and not found.status & IPS_SEEN_REPLY:
                yield found


def everything(client: Netlink) -> Iterator[bytes]:
    """Yield the message of each entry, in one walk. Raises OSError and Unreadable."""
    return _dump(client, socket.AF_UNSPEC)


def _protocol(payload: bytes) -> int | None:
    """Return the protocol number of an entry that looks as they do, None for any other."""
    at = LAYOUTS.get(payload[0]) if payload else None
    if at is None or payload[at.protocol - 4 : at.protocol] != PROTO_HEADER:
        return None
    return payload[at.protocol] if len(payload) > at.protocol else None


def service(payload: bytes) -> bytes | None:
    """Return destination address and port of a UDP entry as bytes, None for another protocol."""
    at = LAYOUTS.get(payload[0]) if payload else None
    if (
        at is not None
        and payload[at.protocol - 4 : at.protocol] == PROTO_HEADER
        and payload[at.port : at.port + 4] == _PORT_HEADER
        and len(payload) >= at.port + 6
    ):
        if payload[at.protocol] != socket.IPPROTO_UDP:
            return None
        return payload[at.destination : at.end] + payload[at.port + 4 : at.port + 6]
    found = entry(payload)
    if found is None or found.protocol != "udp" or not found.original.destination:
        return None
    way = found.original
    packed = socket.inet_pton(_family_of(way.destination), way.destination)
    return packed + way.destination_port.to_bytes(2, "big")


def flow_by_tuple(client: Netlink, protocol: str, way: Tuple) -> Entry | None:
    """Return the entry one of whose directions is ``way``, None where there is none.

    An exact look-up in the kernel's hash, default zone. Raises OSError and Unreadable.
    """
    for payload in _looked_up(client, protocol, way):
        found = entry(payload)
        if (
            found is not None
            and found.protocol == protocol
            and way in (found.original, found.reply)
        ):
            return found
    return None


def flow_by_reply(client: Netlink, protocol: str, way: Tuple) -> Entry | None:
    """Return the entry whose reply runs ``way``: as :func:`flow_by_tuple`, that direction only."""
    found = flow_by_tuple(client, protocol, way)
    return found if found is not None and found.reply == way else None


def delete(client: Netlink, protocol: str, original: Tuple) -> bool:
    """Delete the one entry whose original direction runs ``original``; False where there is none.

    The kernel's own look-up finds an entry by either direction, and without a tuple it would
    delete everything (ctnetlink_del_conntrack()): so the entry is read first and deleted by its
    tuple together with its id (CTA_ID), which another entry that took its place does not have.
    Default zone. Raises OSError (EPERM without CAP_NET_ADMIN) and Unreadable.
    """
    for payload in _looked_up(client, protocol, original):
        found = entry(payload)
        if found is None or found.protocol != protocol or found.original != original:
            continue
        number = next((value for kind, value in attributes(payload, 4) if kind == _ID), None)
        if number is None:
            raise Unreadable("conntrack: an entry came without its id, so it was not deleted")
        wanted = _tuple(_TUPLE_ORIG, PROTOCOLS[protocol], original) + attribute(_ID, number)
        try:
            client.request(IPCTNL_MSG_CT_DELETE, _header(_family_of(original.source)) + wanted)
        except OSError as error:
            if error.errno == errno.ENOENT:  # it ended in between
                return False
            raise
        return True
    return False


def _looked_up(client: Netlink, protocol: str, way: Tuple) -> Iterator[bytes]:
    """Yield the message of the entry that has ``way`` as either direction; none where absent."""
    ask = _header(_family_of(way.source)) + _tuple(_TUPLE_ORIG, PROTOCOLS[protocol], way)
    try:
        for _, payload in client.request(IPCTNL_MSG_CT_GET, ask):
            yield payload
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def not_permitted(error: OSError) -> Unreadable:
    """Return the reason that a report shows for a refused request."""
    hint = "run as root" if error.errno in (errno.EPERM, errno.EACCES) else ""
    return Unreadable(f"conntrack flows: {error.strerror}", hint)
