"""The reset tap: every TCP reset this namespace sends while the window lasts, and whose it was.

A packet socket (packet(7)) with a classic BPF filter hears outgoing resets of this namespace
only; it writes nothing and leaves nothing behind. A reset that is merely *forwarded*, from a
container that ended its connection so, leaves by the same links and with the same addresses. It
is told apart by its time to live: a router has taken one off (RFC 1812, 5.3.1), a reset made here
has this namespace's own default.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import Asking, Watch
from remedies.facts.flows import Flow, flow_of
from remedies.netlink.conntrack import Way, flow_by_reply, not_permitted
from remedies.netlink.socket import NETLINK_NETFILTER, Netlink


@dataclass(frozen=True)
class Reset:
    """A reset that left, and the NAT flow whose reply tuple it answers, if any."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    count: int
    flow: Optional[Flow] = None
    """The flow that owns the tuple: its reply runs destination -> source of this reset."""


@dataclass(frozen=True)
class Tap:
    """What the packet socket heard."""

    resets: tuple[Reset, ...] = ()
    heard: int = 0
    lost: int = 0
    """Packets the kernel dropped for want of buffer (PACKET_STATISTICS)."""
    listened: float = 0.0
    """Seconds; 0: the window was 0 and nothing was heard because nobody listened."""
    forwarded: int = 0
    """Resets that others sent through this namespace: not in ``heard``."""
    unread: tuple[str, ...] = ()


_SO_ATTACH_FILTER = 26  # include/uapi/asm-generic/socket.h
_ETH_P_ALL = 0x0003  # include/uapi/linux/if_ether.h
_SOL_PACKET, _PACKET_STATISTICS = 263, 6  # include/linux/socket.h, uapi/linux/if_packet.h
_ETH_P_IPV6 = 0x86DD
_SNAP = 128

_MOST_TUPLES = 1000
_MOST_AT_ONCE = 4096

# struct sock_filter: code, jump if true, jump if false, operand (include/uapi/linux/filter.h).
# Offsets count from the network header, because the socket is SOCK_DGRAM; -4096 + n are the
# kernel's ancillary words: protocol 0, packet type 4.
_FILTER = (
    (0x30, 0, 0, 0xFFFFF004),  # ldb packet type
    (0x15, 0, 14, 4),  #          PACKET_OUTGOING, else 16
    (0x28, 0, 0, 0xFFFFF000),  # ldh protocol
    (0x15, 0, 7, 0x0800),  #      IPv4, else 11
    (0x30, 0, 0, 9),  #           ldb protocol
    (0x15, 0, 10, 6),  #          TCP, else 16
    (0x28, 0, 0, 6),  #           ldh flags and fragment offset
    (0x45, 8, 0, 0x1FFF),  #      a later fragment: 16
    (0xB1, 0, 0, 0),  #           ldx 4 * header length
    (0x50, 0, 0, 13),  #          ldb [x + 13]: TCP flags
    (0x05, 0, 0, 4),  #           to 15
    (0x15, 0, 4, _ETH_P_IPV6),  # IPv6, else 16
    (0x30, 0, 0, 6),  #           ldb next header
    (0x15, 0, 2, 6),  #           TCP without extension headers, else 16
    (0x30, 0, 0, 53),  #          ldb TCP flags behind 40 bytes of IPv6
    (0x45, 1, 0, 0x04),  #        RST: 17
    (0x06, 0, 0, 0),  #           leave it
    (0x06, 0, 0, _SNAP),  #       take it
)


def parse(packet: bytes) -> tuple[int, Way] | None:
    """Return time to live and direction of an IP packet that the filter let through.

    None where the headers are cut short (RFC 791, RFC 8200, RFC 9293).
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        family, start, ttl = socket.AF_INET, 4 * (packet[0] & 0xF), packet[8]
        source, destination = packet[12:16], packet[16:20]
    elif version == 6 and len(packet) >= 40:
        family, start, ttl = socket.AF_INET6, 40, packet[7]
        source, destination = packet[8:24], packet[24:40]
    else:
        return None
    if len(packet) < start + 4:
        return None
    source_port, destination_port = struct.unpack_from(">HH", packet, start)
    ends = socket.inet_ntop(family, source), socket.inet_ntop(family, destination)
    return ttl, Way(ends[0], source_port, ends[1], destination_port)


class Tally:
    """Counts resets by tuple in bounded memory. Pure: it is told how to ask."""

    def __init__(
        self,
        default_ttl: Callable[[bool, str], int],
        owner: Callable[[Way], Optional[Flow]],
    ) -> None:
        """Take the two questions about this namespace: TTL (v6?, interface), flow (reply tuple)."""
        self._default_ttl = default_ttl
        self._owner = owner
        self._counts: dict[Way, dict[str, int]] = {}
        self._flows: dict[Way, Optional[Flow]] = {}
        self._uncounted = 0
        self.forwarded = 0

    def take(self, packet: bytes, interface: str) -> None:
        """Count one packet that left by ``interface``."""
        parsed = parse(packet)
        if parsed is None:
            return
        ttl, way = parsed
        if ttl != self._default_ttl(":" in way.source, interface):
            self.forwarded += 1
            return
        by_interface = self._counts.get(way)
        if by_interface is None:
            if len(self._counts) == _MOST_TUPLES:
                self._uncounted += 1
                return
            by_interface = self._counts[way] = {}
            # Asked now, because the flow may be gone when the window ends.
            self._flows[way] = self._owner(
                Way(way.destination, way.destination_port, way.source, way.source_port)
            )
        by_interface[interface] = by_interface.get(interface, 0) + 1

    def resets(self) -> tuple[Reset, ...]:
        """Return what was counted. A packet heard on a bridge and on its port is one packet."""
        return tuple(
            Reset(*way, count=max(counts.values()), flow=self._flows[way])
            for way, counts in self._counts.items()
        )

    def heard(self) -> int:
        """Return how many resets left, those beyond the bound on tuples included."""
        return sum(max(counts.values()) for counts in self._counts.values()) + self._uncounted


class _Silent:
    """The tap of a window of 0: nobody listens."""

    def fileno(self) -> int:
        return -1

    def hear(self) -> None:
        """Nothing arrives."""

    def finish(self) -> Tap:
        return Tap()

    def close(self) -> None:
        """Nothing is held."""


class _Listening:
    """The packet socket, and the netlink client that finds a reset's flow."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._unread: dict[str, None] = {}
        self._flows: Optional[Netlink] = None
        # Where conntrack is not there nothing is asked: the request would load its modules.
        self._ask = os.path.exists("/proc/sys/net/netfilter/nf_conntrack_count")
        self._ttls: dict[tuple[bool, str], int] = {}
        self._tally = Tally(self._default_ttl, self._owner)
        self._socket = _open()

    def fileno(self) -> int:
        return self._socket.fileno()

    def hear(self) -> None:
        """Take what has arrived, a bounded number at once so that a flood cannot hold us."""
        for _ in range(_MOST_AT_ONCE):
            try:
                packet, sender = self._socket.recvfrom(_SNAP)
            except BlockingIOError:
                return
            except OSError as error:  # ENETDOWN: an interface went down while we listened
                self._unread[f"packet socket: {error.strerror}"] = None
                return
            self._tally.take(packet, sender[0])

    def finish(self) -> Tap:
        self.hear()
        _, lost = struct.unpack("=II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        listened = time.monotonic() - self._begin
        self.close()
        return Tap(
            resets=self._tally.resets(),
            heard=self._tally.heard(),
            lost=lost,
            listened=round(listened, 3),
            forwarded=self._tally.forwarded,
            unread=tuple(self._unread),
        )

    def close(self) -> None:
        self._socket.close()
        if self._flows is not None:
            self._flows.close()

    def _default_ttl(self, v6: bool, interface: str) -> int:
        """Return the TTL or hop limit of what this namespace makes itself; -1 where unreadable."""
        key = (v6, interface if v6 else "")
        if key not in self._ttls:
            name = f"ipv6/conf/{interface}/hop_limit" if v6 else "ipv4/ip_default_ttl"
            try:
                with open(f"/proc/sys/net/{name}", encoding="ascii") as file:
                    self._ttls[key] = int(file.read())
            except (OSError, ValueError) as error:
                self._unread[f"/proc/sys/net/{name}: {error}"] = None
                self._ttls[key] = -1
        return self._ttls[key]

    def _owner(self, way: Way) -> Optional[Flow]:
        """Return the flow whose reply runs ``way``, None where there is none or none can be read.

        After one refusal nothing more is asked.
        """
        if not self._ask:
            return None
        try:
            if self._flows is None:
                self._flows = Netlink(NETLINK_NETFILTER)
            self._flows.deadline = time.monotonic() + 1.0
            entry = flow_by_reply(self._flows, "tcp", way)
        except OSError as error:
            refused = not_permitted(error)
        except Unreadable as error:
            refused = error
        else:
            return None if entry is None else flow_of(entry)
        self._unread[str(refused)] = None
        self._ask = False
        return None


def _open() -> socket.socket:
    """Return a packet socket that hears what :data:`_FILTER` lets through, and nothing before.

    It is made with protocol 0, which hears nothing, and bound once the filter is on it.
    Raises Unreadable without CAP_NET_RAW or without packet sockets in the kernel.
    """
    code = b"".join(struct.pack("=HBBI", *line) for line in _FILTER)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(_FILTER), ctypes.addressof(buffer))  # struct sock_fprog
    tap: Optional[socket.socket] = None
    try:
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        tap.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        tap.setblocking(False)
        _bind_to_all(tap)
    except OSError as error:
        if tap is not None:
            tap.close()
        hint = "run as root" if isinstance(error, PermissionError) else ""
        raise Unreadable(f"packet socket: {error.strerror}", hint) from error
    return tap


def _bind_to_all(tap: socket.socket) -> None:
    """Bind to every interface (index 0), which :meth:`socket.socket.bind` has no name for."""
    # struct sockaddr_ll: family, protocol in network order, index, and what bind() ignores
    address = struct.pack("=HHi", socket.AF_PACKET, socket.htons(_ETH_P_ALL), 0) + bytes(12)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.bind(tap.fileno(), address, len(address)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def watch(asking: Asking) -> Watch[Tap]:
    """Begin to listen; with a window of 0 nobody listens.

    Raises Unreadable where a packet socket may not be made.
    """
    return _Listening() if asking.window > 0 else _Silent()
