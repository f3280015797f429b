"""rtnetlink: the neighbours that do not answer. Needs no privilege.

Layouts are those of include/uapi/linux/neighbour.h.
"""

from __future__ import annotations

import socket
import struct

from remedies.netlink.socket import Netlink, attributes
from remedies.values import NamedTuple

_RTM_GETNEIGH = 30
_NDMSG = struct.Struct("=BxxxiHBB")  # family, interface, NUD_* state, flags, RTN_* type
_NDA_DST = 1
_INCOMPLETE, _FAILED = 0x01, 0x20


class Silent(NamedTuple):
    """A neighbour that was asked for and has not answered."""

    address: str
    link: int
    failed: bool
    """It was asked as often as the kernel asks (NUD_FAILED); False: it is being asked now."""


def silent(client: Netlink) -> list[Silent]:
    """Return the neighbours without an answer. Raises OSError and Unreadable."""
    found = []
    for _, payload in client.table(_RTM_GETNEIGH, _NDMSG.pack(0, 0, 0, 0, 0)):
        if len(payload) < _NDMSG.size:
            continue
        family, link, state, _, _ = _NDMSG.unpack_from(payload)
        if not state & (_INCOMPLETE | _FAILED) or family not in (socket.AF_INET, socket.AF_INET6):
            continue
        for kind, value in attributes(payload, _NDMSG.size):
            if kind == _NDA_DST and len(value) == (4 if family == socket.AF_INET else 16):
                address = socket.inet_ntop(family, value)
                found.append(Silent(address, link, bool(state & _FAILED)))
    return found
