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
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Optional

from remedies.errors import Unreadable
from remedies.netlink.conntrack_entry import (
    ID,
    IP_V4_DST,
    IP_V4_SRC,
    IP_V6_DST,
    IP_V6_SRC,
    IPS_ASSURED,
    IPS_DST_NAT,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT,
    PROTO_DST_PORT,
    PROTO_NUM,
    PROTO_SRC_PORT,
    PROTOCOLS,
    STATUS,
    SYN_SENT,
    TUPLE_IP,
    TUPLE_ORIG,
    TUPLE_PROTO,
    ZONE,
    Entry,
    entry,
    family_of,
    protocol_of,
    service,
)
from remedies.netlink.flow import Tuple
from remedies.netlink.socket import Netlink, attribute, attributes, nested
from remedies.values import NamedTuple

_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK in the high byte
IPCTNL_MSG_CT_GET = _SUBSYSTEM | 1
IPCTNL_MSG_CT_DELETE = _SUBSYSTEM | 2

_FILTER, _STATUS_MASK = 25, 26
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
# CTA_FILTER_F_*: IP_SRC, IP_DST, PROTO_NUM, PROTO_SRC_PORT, PROTO_DST_PORT (nf_internals.h)
_BY_SOURCE, _BY_DESTINATION, _BY_PROTOCOL, _BY_SOURCE_PORT, _BY_DESTINATION_PORT = 1, 2, 8, 16, 32

_DEFAULT_ZONE = attribute(ZONE, bytes(2))
_REFUSED = (errno.EOPNOTSUPP, errno.EINVAL)


class TupleMatch(NamedTuple):
    """What a flow's original direction has to be; None: anything."""

    source: Optional[str] = None
    source_port: Optional[int] = None
    destination: Optional[str] = None
    destination_port: Optional[int] = None


ANY = TupleMatch()


def _header(family: int) -> bytes:
    """Return struct nfgenmsg: family, NFNETLINK_V0, resource 0."""
    return struct.pack("=BBH", family, 0, 0)


def _tuple(kind: int, protocol: int, way: Tuple | TupleMatch) -> bytes:
    """Return a CTA_TUPLE_* of what is set in ``way``."""
    inside = []
    ends = [end for end in (way.source, way.destination) if end is not None]
    if ends:
        v6 = family_of(ends[0]) == socket.AF_INET6
        kinds = (IP_V6_SRC, IP_V6_DST) if v6 else (IP_V4_SRC, IP_V4_DST)
        inside.append(
            nested(
                TUPLE_IP,
                *(
                    attribute(kind, socket.inet_pton(family_of(end), end))
                    for kind, end in zip(kinds, (way.source, way.destination))
                    if end is not None
                ),
            )
        )
    ports = ((PROTO_SRC_PORT, way.source_port), (PROTO_DST_PORT, way.destination_port))
    inside.append(
        nested(
            TUPLE_PROTO,
            attribute(PROTO_NUM, bytes([protocol])),
            *(attribute(kind, struct.pack(">H", n)) for kind, n in ports if n is not None),
        )
    )
    return nested(kind, *inside)


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
        attribute(STATUS, struct.pack(">I", status)),
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
        _tuple(TUPLE_ORIG, PROTOCOLS[protocol], match),
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
        families = [family_of(address)] if address else [socket.AF_INET, socket.AF_INET6]
        walks = [(int(family), (*_by_tuple(protocol, match), *bits)) for family in families]
    number = PROTOCOLS[protocol]
    for family, narrow in walks:
        for payload in _dump(client, family, *narrow):
            if protocol_of(payload) not in (number, None):
                continue
            found = entry(payload)
            if (
                found is not None
                and found.protocol == protocol
                and found.status & mask == status & mask
                and family in (socket.AF_UNSPEC, family_of(found.original.source))
                and all(want in (None, got) for want, got in zip(match, found.original.parts))
            ):
                yield found


def unreplied(client: Netlink, opening: int = 0) -> Iterator[Entry]:
    """Yield the UDP entries that have seen no reply, and the first ``opening`` of TCP's SYN_SENT.

    One walk of the table for both families, narrowed to the status bit: the walk itself costs
    most, so that :func:`flows`, which needs one per family, would not pay.
    Raises OSError (EPERM without CAP_NET_ADMIN) and Unreadable.
    """
    for payload in _dump(client, socket.AF_UNSPEC, *_by_status(0, IPS_SEEN_REPLY)):
        udp = service(payload) is not None
        if not udp and not (opening and SYN_SENT in payload):
            continue
        found = entry(payload)
        if found is None or found.status & IPS_SEEN_REPLY or not (udp or found.opening):
            continue
        opening -= 0 if udp else 1
        yield found


def unreplied_udp(client: Netlink) -> Iterator[Entry]:
    """Yield the UDP entries that have seen no reply: as :func:`unreplied`."""
    return unreplied(client)


def answered_udp(client: Netlink, targets: Collection[str]) -> Iterator[Entry]:
    """Yield the UDP entries with a reply whose destination NAT turned to one of ``targets``.

    One walk, narrowed to these bits; what does not hold a target's address is not parsed. Raises
    as :func:`flows`.
    """
    bits = IPS_SEEN_REPLY | IPS_DST_NAT
    packed = [socket.inet_pton(family_of(end), end) for end in targets]
    for payload in _dump(client, socket.AF_UNSPEC, *_by_status(bits, bits)) if packed else ():
        if any(end in payload for end in packed):
            found = entry(payload)
            if (
                found is not None
                and found.protocol == "udp"
                and found.status & bits == bits
                and found.reply.source in targets
            ):
                yield found


def turned_sources(
    client: Netlink, most: Optional[int] = None, but: Collection[str] = ()
) -> Iterator[Entry]:
    """Yield the entries whose source NAT turned, in one walk. Raises as :func:`flows`.

    Of the first ``most`` alone; what has an address of ``but`` in it is not parsed.
    """
    packed = [socket.inet_pton(family_of(end), end) for end in but]
    found = _dump(client, socket.AF_UNSPEC, *_by_status(IPS_SRC_NAT, IPS_SRC_NAT))
    for payload in islice(found, most):
        if any(end in payload for end in packed):
            continue
        parsed = entry(payload)
        if parsed is not None and parsed.status & IPS_SRC_NAT:
            yield parsed


def giving_way(client: Netlink) -> Iterator[bytes]:
    """Yield the message of each entry, of any protocol, that the kernel evicts for a new one.

    Those that are not assured (early_drop(), and gc_worker() once a table is nearly full; both in
    net/netfilter/nf_conntrack_core.c). Raises OSError and Unreadable.
    """
    for payload in _dump(client, socket.AF_UNSPEC, *_by_status(0, IPS_ASSURED)):
        if not int.from_bytes(dict(attributes(payload, 4))[STATUS], "big") & IPS_ASSURED:
            yield payload


def everything(client: Netlink) -> Iterator[bytes]:
    """Yield the message of each entry, in one walk. Raises OSError and Unreadable."""
    return _dump(client, socket.AF_UNSPEC)


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


def delete(client: Netlink, protocol: str, original: Tuple, number: Optional[int] = None) -> bool:
    """Delete the one entry whose original direction runs ``original``; False where there is none.

    ``number``: only the entry with this id.

    The kernel's own look-up finds an entry by either direction, and without a tuple it would
    delete everything (ctnetlink_del_conntrack()): so the entry is read first and deleted by its
    tuple together with its id (CTA_ID), which another entry that took its place does not have.
    In the default zone, which CTA_ZONE says: another zone may have the same tuple.
    Raises OSError (EPERM without CAP_NET_ADMIN) and Unreadable.
    """
    for payload in _looked_up(client, protocol, original):
        found = entry(payload)
        if found is None or found.protocol != protocol or found.original != original:
            continue
        if not found.number:
            raise Unreadable("conntrack: an entry came without its id, so it was not deleted")
        if number not in (None, found.number):
            continue
        wanted = _tuple(TUPLE_ORIG, PROTOCOLS[protocol], original) + _DEFAULT_ZONE
        wanted += attribute(ID, struct.pack(">I", found.number))
        try:
            client.request(IPCTNL_MSG_CT_DELETE, _header(family_of(original.source)) + wanted)
        except OSError as error:
            if error.errno == errno.ENOENT:  # it ended in between
                return False
            raise
        return True
    return False


def _looked_up(client: Netlink, protocol: str, way: Tuple) -> Iterator[bytes]:
    """Yield the message of the entry that has ``way`` as either direction; none where absent."""
    ask = _header(family_of(way.source)) + _tuple(TUPLE_ORIG, PROTOCOLS[protocol], way)
    ask += _DEFAULT_ZONE
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
