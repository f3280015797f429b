"""sock_diag: sockets chosen in the kernel: wildcard UDP ones, one by its tuple, all of a port.

Requests and answers are those of include/uapi/linux/inet_diag.h. No privilege is needed; the
kernel may load its ``udp_diag`` module, as it does for ss(8).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Container, Iterator, Sequence
from typing import Optional

from remedies.errors import Unreadable
from remedies.netlink.socket import Netlink, attribute, attributes
from remedies.values import NamedTuple

SOCK_DIAG_BY_FAMILY = 20  # include/uapi/linux/sock_diag.h

PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}

_UNCONNECTED = 1 << 7  # TCP_CLOSE, include/net/tcp_states.h: a UDP socket without a peer
LISTEN = 10
"""TCP_LISTEN (include/net/tcp_states.h): the state of a TCP socket that listens."""
_EVERY_STATE = 0xFFFFFFFF
_REQ_BYTECODE = 1
_SKMEMINFO, _SKV6ONLY = 7, 11
_S_COND = 7  # INET_DIAG_BC_S_COND: compare the local address
_S_GE, _S_LE = 2, 3  # INET_DIAG_BC_S_GE, _LE: compare the local port with the next operation's
_NO_COOKIE = bytes((0xFF,)) * 8  # INET_DIAG_NOCOOKIE, twice
_JMP = 1
_ANY_PORT = -1
_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2

_Net = tuple[bytes, int]
"""A packed address, and how many of its bits are compared."""
_NOWHERE: dict[int, _Net] = {socket.AF_INET: (bytes(4), 32), socket.AF_INET6: (bytes(16), 128)}
_LOOPBACK: dict[int, tuple[_Net, ...]] = {
    socket.AF_INET: ((b"\x7f\0\0\0", 8),),
    socket.AF_INET6: ((bytes(15) + b"\1", 128), (_MAPPED + b"\x7f\0\0\0", 104)),
}

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


class SocketMemory(NamedTuple):
    """What a socket holds (SK_MEMINFO_*, include/uapi/linux/sock_diag.h); bytes but for drops."""

    receive: int
    receive_limit: int
    send: int
    send_limit: int
    drops: int
    """Packets it had no room for."""


class Socket(NamedTuple):
    """One TCP or UDP socket."""

    family: int
    """Of the socket: a ``::`` one that serves IPv4 is AF_INET6."""
    state: int
    """TCP_* of include/net/tcp_states.h: 1 established (UDP: has a peer), 7 closed, 10 listens."""
    local: tuple[str, int]
    remote: tuple[str, int]
    inode: int
    """0 where no process holds it (TIME_WAIT)."""
    uid: int
    interface: int
    timer: int
    """0 none, 1 retransmission, 2 keep-alive or other, 3 TIME_WAIT, 4 zero-window probe."""
    expires: int
    """Milliseconds until the timer's end."""
    retransmits: int
    receive_queue: int
    """Bytes waiting; for a listener: connections waiting."""
    send_queue: int
    """Bytes not acknowledged; for a listener: how many connections may wait."""
    memory: Optional[SocketMemory]
    """None where it was not asked for."""


def _within(family: int, net: _Net) -> bytes:
    """Return the kernel-side test "local address is in this net".

    inet_diag_bc_run() in net/ipv4/inet_diag.c: a jump to the end of the code is a match, one past
    that by 4 is none.
    """
    address, prefix = net
    condition = struct.pack("=BBxxi", family, prefix, _ANY_PORT) + address
    length = 4 + len(condition)
    return struct.pack("=BBH", _S_COND, length, length + 4) + condition


def _outside(family: int, nets: Sequence[_Net]) -> bytes:
    """Return the kernel-side test "local address is in none of these".

    A check that succeeds may not jump past the end (inet_diag_bc_audit()): it goes on to a second
    operation, which always fails and jumps there.
    """
    code = b""
    for net in reversed(nets):
        never = struct.pack("=BBH", _JMP, 4, 4 + len(code) + 4)
        code = _within(family, net) + never + code
    return code


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


def tcp_or_udp(payload: bytes) -> Socket:
    """Return the socket that a message describes; raise Unreadable where it is malformed."""
    if len(payload) < _MESSAGE.size:
        raise Unreadable(f"sock_diag: message of {len(payload)} bytes")
    fields = _MESSAGE.unpack_from(payload)
    family, state, timer, retransmits = fields[:4]
    size = 16 if family == socket.AF_INET6 else 4
    ends = [
        (
            socket.inet_ntop(socket.AF_INET6 if size == 16 else socket.AF_INET, address[:size]),
            int.from_bytes(port, "big"),
        )
        for address, port in ((fields[6], fields[4]), (fields[7], fields[5]))
    ]
    memory = None
    for kind, value in attributes(payload, _MESSAGE.size):
        if kind == _SKMEMINFO and len(value) >= 36:  # nine numbers since Linux 4.6
            memory = SocketMemory(*struct.unpack_from("=4I16xI", value))
    return Socket(
        family=family,
        state=state,
        local=ends[0],
        remote=ends[1],
        inode=fields[14],
        uid=fields[13],
        interface=fields[8],
        timer=timer,
        expires=fields[10],
        retransmits=retransmits,
        receive_queue=fields[11],
        send_queue=fields[12],
        memory=memory,
    )


def _request(
    family: int,
    protocol: str,
    identity: bytes,
    *,
    memory: bool = False,
    states: int = _EVERY_STATE,
) -> bytes:
    """Return struct inet_diag_req_v2 for the states of a bit mask."""
    extensions = 1 << (_SKMEMINFO - 1) if memory else 0
    head = struct.pack("=BBBBI", family, PROTOCOLS[protocol], extensions, 0, states)
    return head + identity


def by_tuple(
    client: Netlink,
    protocol: str,
    local: tuple[str, int],
    remote: tuple[str, int],
    interface: int = 0,
) -> Optional[Socket]:
    """Return the socket that a packet from ``remote`` to ``local`` would reach; None: none would.

    ``interface``: index of the one that it comes by; a socket bound to an interface takes no
    packet of another.

    The kernel answers from the look-up that packets take, so a listener or a wildcard socket is
    an answer where no socket has that very peer: look at its ``remote``. Raises OSError (ENOENT
    without udp_diag or tcp_diag in the kernel is told as None, too) and Unreadable.
    """
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    first, second = local, remote
    if protocol == "udp":  # udp_dump_one(): "src and dst are swapped for historical reasons"
        first, second = remote, local
    identity = struct.pack(">HH", first[1], second[1])
    for address, _ in (first, second):
        identity += socket.inet_pton(family, address).ljust(16, bytes(1))
    identity += struct.pack("=I", interface) + _NO_COOKIE
    try:
        answers = client.request(SOCK_DIAG_BY_FAMILY, _request(family, protocol, identity))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return next((tcp_or_udp(payload) for _, payload in answers), None)


def by_local_port(
    client: Netlink, protocol: str, port: int, *, memory: bool = False
) -> Iterator[Socket]:
    """Yield the sockets of every state on a local port, IPv4 first, chosen in the kernel.

    ``memory``: with :class:`SocketMemory`. Raises OSError and Unreadable.
    """
    return by_local_ports(client, protocol, port, port, memory=memory)


def by_local_ports(
    client: Netlink, protocol: str, low: int, high: int, *, memory: bool = False
) -> Iterator[Socket]:
    """Yield the sockets of every state whose local port is from ``low`` to ``high``.

    As :func:`by_local_port` does.
    """
    # Two tests, each a struct inet_diag_bc_op followed by one that holds the port: on success go
    # on behind both, else past the end by 4, which is no match (inet_diag_bc_run()).
    code = b"".join(
        struct.pack("=BBH", test, 8, left + 4) + struct.pack("=BBH", 0, 0, port)
        for test, left, port in ((_S_GE, 16, low), (_S_LE, 8, high))
    )
    narrow = attribute(_REQ_BYTECODE, code)
    for family in (socket.AF_INET, socket.AF_INET6):
        ask = _request(family, protocol, bytes(48), memory=memory) + narrow
        for _, payload in client.dump(SOCK_DIAG_BY_FAMILY, ask):
            found = tcp_or_udp(payload)
            if found.family == family and low <= found.local[1] <= high:
                yield found


def with_queue(client: Netlink, protocol: str) -> Iterator[Socket]:
    """Yield the sockets that packets wait in, with their memory, IPv4 first.

    They are all UDP sockets, or the TCP listeners. Raises OSError and Unreadable.
    """
    states = 1 << LISTEN if protocol == "tcp" else _EVERY_STATE
    for family in (socket.AF_INET, socket.AF_INET6):
        ask = _request(family, protocol, bytes(48), memory=True, states=states)
        for _, payload in client.dump(SOCK_DIAG_BY_FAMILY, ask):
            found = tcp_or_udp(payload)
            if found.family == family:
                yield found


def wildcard_udp(client: Netlink) -> Iterator[Wildcard]:
    """Yield the wildcard UDP sockets without a peer, IPv4 first.

    Raises OSError (ENOENT where the kernel has no udp_diag) and Unreadable.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        request = struct.pack("=BBBBI", family, socket.IPPROTO_UDP, 0, 0, _UNCONNECTED)
        request += bytes(48)  # struct inet_diag_sockid: any
        request += attribute(_REQ_BYTECODE, _within(family, _NOWHERE[family]))
        for _, payload in client.dump(SOCK_DIAG_BY_FAMILY, request):
            found = wildcard(payload)
            if found is not None and found.family == family:
                yield found


class Bound(NamedTuple):
    """One UDP socket with a local address of its own; addresses packed, IPv4-mapped ones as IPv4.

    A socket without a peer has port 0 there.
    """

    address: bytes
    port: int
    peer: bytes
    peer_port: int
    inode: int
    family: int
    """AF_INET or AF_INET6: of the socket, not of its addresses."""


def bound_udp(client: Netlink, among: Optional[Container[bytes]] = None) -> Iterator[Bound]:
    """Yield the UDP sockets that have a local address, by bind or by connect, IPv4 first.

    ``among``: one of these, packed; loopback's own are never among them, and stay in the kernel.
    Raises OSError (ENOENT where the kernel has no udp_diag) and Unreadable.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        ask = _request(family, "udp", bytes(48))
        without = (_NOWHERE[family], *(_LOOPBACK[family] if among is not None else ()))
        ask += attribute(_REQ_BYTECODE, _outside(family, without))
        for _, payload in client.dump(SOCK_DIAG_BY_FAMILY, ask):
            if len(payload) < _MESSAGE.size:
                raise Unreadable(f"sock_diag: message of {len(payload)} bytes")
            fields = _MESSAGE.unpack_from(payload)
            port, peer_port, address, peer = fields[4:8]
            own = _packed(family, address)
            if fields[0] == family and (among is None or own in among):
                yield Bound(
                    own,
                    int.from_bytes(port, "big"),
                    _packed(family, peer),
                    int.from_bytes(peer_port, "big"),
                    fields[14],
                    family,
                )


def _packed(family: int, address: bytes) -> bytes:
    if family == socket.AF_INET:
        return address[:4]
    return address[12:] if address.startswith(_MAPPED) else address
