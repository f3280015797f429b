"""Sets of ipset(8) over netlink: the name behind a rule's number, and what a set holds.

Numbers are those of include/uapi/linux/netfilter/ipset/ip_set.h, all in network order. The name of
a number is asked for by IPSET_CMD_GET_BYINDEX (Linux 4.20). Nothing is loaded by asking: a number
comes from a rule that holds the set. Entries whose time is over are not listed.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import Optional

from remedies.errors import Unreadable
from remedies.netlink.socket import (
    NETLINK_NETFILTER,
    Netlink,
    attribute,
    attributes,
)
from remedies.values import dataclass

_SUBSYSTEM = 6 << 8  # NFNL_SUBSYS_IPSET
_LIST, _GET_BYINDEX = 7, 15
_HEADER = struct.pack("=BBH", socket.AF_INET, 0, 0)  # struct nfgenmsg
_SETNAME, _TYPENAME, _FAMILY, _DATA, _ADT = 2, 3, 5, 7, 8
_INDEX = 11 | 1 << 14  # NLA_F_NET_BYTEORDER
_NETMASK, _ELEMENTS, _BITMASK = 20, 24, 12  # of a set
_IP, _CIDR, _PORT, _PROTO, _FLAGS, _NAME, _IP2, _CIDR2, _IFACE = 1, 3, 4, 7, 8, 18, 20, 21, 23
_PHYSDEV, _NOMATCH, _WILDCARD = 1 << 1, 1 << 2, 1 << 5
_FAMILIES = {0: "", socket.AF_INET: "ip", socket.AF_INET6: "ip6"}


@dataclass(frozen=True)
class IpSetEntry:
    """One entry; what its set's type does not have is empty or 0."""

    address: str = ""
    """A prefix."""
    protocol: int = 0
    port: int = 0
    second: str = ""
    """The other prefix of a type that has two."""
    interface: str = ""
    """``*`` ends a prefix."""
    name: str = ""
    """A set, in a ``list:set``."""
    excluded: bool = False
    """``nomatch``."""
    bridged: bool = False
    """``physdev:``, a port of a bridge."""


@dataclass(frozen=True)
class IpSet:
    """One set with all it holds."""

    name: str
    type: str
    """``hash:ip,port``, ``list:set`` ..."""
    family: str
    """``ip``, ``ip6``, or empty: both."""
    entries: tuple[IpSetEntry, ...] = ()
    masked: bool = False
    """Addresses are masked (``bitmask``, or ``netmask`` of a type with ports) before a look-up."""


def set_name(index: int, deadline: float) -> str:
    """Return the name of the set with a number; raise OSError (ENOENT) and Unreadable."""
    asked = _HEADER + attribute(1, b"\7") + attribute(_INDEX, struct.pack(">H", index))
    with Netlink(NETLINK_NETFILTER, deadline) as client:
        for _, body in client.request(_SUBSYSTEM | _GET_BYINDEX, asked):
            return _text(dict(attributes(body, 4)).get(_SETNAME, b""))
    raise Unreadable(f"ipset {index} has no name")


def contents(name: str, limit: int, deadline: float) -> IpSet:
    """Return a set with its entries; raise OSError, and Unreadable past ``limit`` of them."""
    asked = _HEADER + attribute(1, b"\6") + attribute(_SETNAME, name.encode() + b"\0")
    with Netlink(NETLINK_NETFILTER, deadline) as client:
        return decode(name, (body for _, body in client.dump(_SUBSYSTEM | _LIST, asked)), limit)


def decode(name: str, bodies: Iterable[bytes], limit: int) -> IpSet:
    """Return the set that the messages of a listing describe. Raises Unreadable."""
    kind, family, masked, mask = "", "", False, None
    found: list[IpSetEntry] = []
    for body in bodies:
        got = dict(attributes(body, 4))
        kind = _text(got.get(_TYPENAME, b"")) or kind
        family = _FAMILIES.get(_number(got.get(_FAMILY, b"")), "")
        head = dict(attributes(got.get(_DATA, b"")))
        if _number(head.get(_ELEMENTS, b"")) > limit:
            raise Unreadable(f"ipset {name} has over {limit} entries")
        mask = _number(head[_NETMASK]) if _NETMASK in head else mask
        masked = masked or _BITMASK in head or (mask is not None and "," in kind)
        found += [_entry(data, mask) for _, data in attributes(got.get(_ADT, b""))]
        if len(found) > limit:
            raise Unreadable(f"ipset {name} has over {limit} entries")
    return IpSet(name, kind, family, tuple(found), masked)


def _entry(data: bytes, mask: Optional[int]) -> IpSetEntry:
    got = dict(attributes(data))
    flags = _number(got.get(_FLAGS, b""))
    interface = _text(got.get(_IFACE, b""))
    length = _number(got[_CIDR]) if _CIDR in got else mask
    return IpSetEntry(
        address=_prefix(got.get(_IP, b""), length),
        protocol=_number(got.get(_PROTO, b"")),
        port=_number(got.get(_PORT, b"")),
        second=_prefix(got.get(_IP2, b""), _number(got[_CIDR2]) if _CIDR2 in got else None),
        interface=f"{interface}*" if flags & _WILDCARD else interface,
        name=_text(got.get(_NAME, b"")),
        excluded=bool(flags & _NOMATCH),
        bridged=bool(flags & _PHYSDEV),
    )


def _prefix(nested: bytes, length: Optional[int]) -> str:
    """Return an address (IPSET_ATTR_IPADDR_IPV4 or IPV6 in it) as a prefix, empty for none."""
    for _, value in attributes(nested):
        if len(value) not in (4, 16):
            raise Unreadable(f"ipset: an address of {len(value)} bytes")
        version = socket.AF_INET if len(value) == 4 else socket.AF_INET6
        text = socket.inet_ntop(version, value)
        whole = 8 * len(value)
        if length is not None and length > whole:
            raise Unreadable(f"ipset: a prefix of {length} bits")
        return text if length in (None, whole) else f"{text}/{length}"
    return ""


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _text(value: bytes) -> str:
    return value.split(b"\0")[0].decode(errors="replace")
