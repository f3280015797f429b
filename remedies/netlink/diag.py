"""sock_diag: unconnected UDP sockets on the wildcard address, chosen in the kernel.

Requests and answers are those of include/uapi/linux/inet_diag.h. No privilege is needed; the
kernel may load its ``udp_diag`` module, as it does for ss(8).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple, Optional

from remedies.errors import Unreadable
from remedies.netlink.socket import Netlink, attribute, attributes

SOCK_DIAG_BY_FAMILY = 20  # include/uapi/linux/sock_diag.h

_UNCONNECTED = 1 << 7  # TCP_CLOSE, include/net/tcp_states.h: a UDP socket without a peer
_REQ_BYTECODE = 1
_SKV6ONLY = 11
_S_COND = 7  # INET_DIAG_BC_S_COND: compare the local address
_ANY_PORT = -1

# struct inet_diag_msg: family, state, timer, retransmits; ports, addresses, interface, cookie;
# expires, two queues, uid, inode.
_MESSAGE = struct.Struct("=BBBB2s2s16s16sI8sIIIII")


class Wildcard(NamedTuple):
    """One UDP socket bound to 0.0.0.0 or ::, without a peer."""

    family: int
    """socket.AF_INET or AF_INET6."""
    port: int
    inode: int
    uid: int
    interface: int
    """Index of the interface it is bound to (SO_BINDTODEVICE); 0: none."""
    v6only: Optional[bool]
    """IPV6_V6ONLY; None for IPv4 and where the kernel does not say (before Linux 4.6)."""


def _bytecode(family: int) -> bytes:
    """Return the kernel-side test "local address is the wildcard" (inet_diag_bc_run())."""
    size = 4 if family == socket.AF_INET else 16
    length = 4 + 8 + size
    operation = struct.pack("=BBH", _S_COND, length, length + 4)  # past the end by 4: no match
    condition = struct.pack("=BBxxi", family, size * 8, _ANY_PORT) + bytes(size)
    return operation + condition


def wildcard(payload: bytes) -> Wildcard | None:
    """Return the socket that a message describes, None where its address is not the wildcard.

    Raises Unreadable where the message is malformed.
    """
    if len(payload) < _MESSAGE.size:
        raise Unreadable(f"sock_diag: message of {len(payload)} bytes")
    fields = _MESSAGE.unpack_from(payload)
    family, port, address, interface = fields[0], fields[4], fields[6], fields[8]
    if any(address):
        return None
    v6only = None
    if family == socket.AF_INET6:
        for kind, value in attributes(payload, _MESSAGE.size):
            if kind == _SKV6ONLY and value:
                v6only = bool(value[0])
    return Wildcard(family, int.from_bytes(port, "big"), fields[14], fields[13], interface, v6only)


def wildcard_udp(client: Netlink) -> Iterator[Wildcard]:
    """Yield the wildcard UDP sockets without a peer, IPv4 first.

    Raises OSError (ENOENT where the kernel has no udp_diag) and Unreadable.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        request = struct.pack("=BBBBI", family, socket.IPPROTO_UDP, 0, 0, _UNCONNECTED)
        request += bytes(48)  # struct inet_diag_sockid: any
        request += attribute(_REQ_BYTECODE, _bytecode(family))
        for _, payload in client.dump(SOCK_DIAG_BY_FAMILY, request):
            found = wildcard(payload)
            if found is not None and found.family == family:
                yield found
