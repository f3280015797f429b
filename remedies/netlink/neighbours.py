"""rtnetlink: neighbours, and whether they answer. Needs no privilege.

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
_NTF_PROXY = 0x08


class Neighbour(NamedTuple):
    """A neighbour that this host has asked for."""

    address: str
    link: int
    silent: bool
    """It has not answered: it is being asked, or was asked as often as the kernel asks."""


def answered_for(client: Netlink) -> set[str]:
    """Return the addresses of others for which this host answers (``ip neigh add proxy``).

    Raises OSError and Unreadable.
    """
    found = set()
    for _, payload in client.table(_RTM_GETNEIGH, _NDMSG.pack(0, 0, 0, _NTF_PROXY, 0)):
        if len(payload) < _NDMSG.size:
            continue
        family, _, _, flags, _ = _NDMSG.unpack_from(payload)
        for kind, value in attributes(payload, _NDMSG.size):
            if flags & _NTF_PROXY and kind == _NDA_DST and len(value) in (4, 16):
                found.add(socket.inet_ntop(family, value))
    return found


def neighbours(client: Netlink, *, silent: bool = False) -> list[Neighbour]:
    """Return every neighbour, or the ``silent`` ones alone. Raises OSError and Unreadable.

    One that failed is forgotten some seconds later (neigh_periodic_work(), net/core/neighbour.c),
    and asked for again with the next packet to it.
    """
    found = []
    for _, payload in client.table(_RTM_GETNEIGH, _NDMSG.pack(0, 0, 0, 0, 0)):
        if len(payload) < _NDMSG.size:
            continue
        family, link, state, _, _ = _NDMSG.unpack_from(payload)
        quiet = bool(state & (_INCOMPLETE | _FAILED))
        if family not in (socket.AF_INET, socket.AF_INET6) or silent > quiet:
            continue
        for kind, value in attributes(payload, _NDMSG.size):
            if kind == _NDA_DST and len(value) == (4 if family == socket.AF_INET else 16):
                address = socket.inet_ntop(family, value)
                found.append(Neighbour(address, link, quiet))
    return found
