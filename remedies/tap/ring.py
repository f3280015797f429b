"""The packet socket: a ring of blocks that the kernel fills and we read without a call a packet.

TPACKET_V3 of packet(7) and Documentation/networking/packet_mmap.rst (Linux 3.2). The socket hears
this namespace only, writes nothing and leaves nothing behind. Layouts and numbers:
include/uapi/linux/if_packet.h.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import Optional

from remedies.errors import Unreadable
from remedies.values import NamedTuple

BLOCK = 1 << 16
"""Bytes of a block: some 400 packets as the filter cuts them."""
RETIRE = 10
"""Milliseconds after which the kernel hands over a block that is not full."""

_SO_ATTACH_FILTER = 26  # include/uapi/asm-generic/socket.h
_ETH_P_ALL = 0x0003  # include/uapi/linux/if_ether.h
_SOL_PACKET, _RX_RING, _STATISTICS, _VERSION, _V3 = 263, 5, 6, 10, 2
_FRAME = 1 << 11  # of no meaning in V3, but checked
_USER = 1  # TP_STATUS_USER
_UNSUMMED = 8  # TP_STATUS_CSUMNOTREADY
_OUTGOING = 4

# struct tpacket_block_desc: version, offset to private data, status, packets, offset to first
_STATUS = struct.Struct("=I")
_BLOCK = struct.Struct("=8xIII")
# struct tpacket3_hdr: next offset, seconds, nanoseconds, snapped length, length, status, mac,
# net; behind 48 bytes struct sockaddr_ll: family, protocol, interface, hardware, packet type
_PACKET = struct.Struct("=IIIIIIHH20xHHiHB")


class Packet(NamedTuple):
    """One packet as it was heard."""

    content: bytes
    """From the IP header on, as much as the filter keeps."""
    outgoing: bool
    link: int
    """Index of the interface."""
    time: float
    """Seconds since 1970."""
    summed: bool = True
    """Its checksum is in it; False: the device is still to put it in (CHECKSUM_PARTIAL)."""


class Ring:
    """A packet socket with its ring. Not thread-safe."""

    def __init__(self, program: bytes, blocks: int) -> None:
        """Begin to hear what ``program`` lets through, with ``blocks`` blocks of memory.

        Raises Unreadable without CAP_NET_RAW or without packet sockets in the kernel.
        """
        self._blocks = blocks
        self._next = 0
        self._taken = self._passed = 0
        self.lost = 0
        """Packets that the kernel dropped for want of room, as of the last :meth:`count`."""
        self._memory: Optional[mmap.mmap] = None
        self._socket: Optional[socket.socket] = None
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
            self._memory = _prepare(self._socket, program, blocks)
        except OSError as error:
            self.close()
            hint = "run as root" if isinstance(error, PermissionError) else ""
            raise Unreadable(f"packet socket: {error.strerror}", hint) from error

    def fileno(self) -> int:
        """Return the descriptor to poll; readable when a block has been handed over."""
        return -1 if self._socket is None else self._socket.fileno()

    def read(self, most: int) -> Iterator[Packet]:
        """Yield the packets of the blocks that are ready, at most ``most`` blocks."""
        memory = self._memory
        for _ in range(most if memory is not None else 0):
            assert memory is not None  # noqa: S101  # the range is empty without
            base = self._next * BLOCK
            status, packets, offset = _BLOCK.unpack_from(memory, base)
            if not status & _USER:
                return
            at = base + offset
            for _ in range(packets):
                forward, seconds, nanos, size, _, status, _, net, _, _, link, _, kind = (
                    _PACKET.unpack_from(memory, at)
                )
                start = at + net
                content = memory[start : start + size]
                summed = not status & _UNSUMMED
                yield Packet(content, kind == _OUTGOING, link, seconds + nanos / 1e9, summed)
                at += forward
            self._taken += packets
            _STATUS.pack_into(memory, base + 8, 0)  # TP_STATUS_KERNEL: it may be filled again
            self._next = (self._next + 1) % self._blocks

    def drain(self, seconds: float = 0.5) -> Iterator[Packet]:
        """Yield what has passed the filter by now and is not read yet; wait for its block."""
        end = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        self.count()
        goal = self._passed
        while self._taken < goal and time.monotonic() < end:
            poll.poll(RETIRE)
            yield from self.read(self._blocks)

    def count(self) -> None:
        """Take over the kernel's count of packets that passed and that were lost.

        The kernel begins again at 0 with each answer (packet_getsockopt()).
        """
        if self._socket is None:
            return
        passed, lost, _ = struct.unpack(
            "=III", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 12)
        )
        self._passed += passed - lost
        self.lost += lost

    def refilter(self, program: bytes) -> None:
        """Let through what ``program`` does from now on; what is in the ring stays there.

        Raises OSError.
        """
        if self._socket is not None:
            _attach(self._socket, program)

    def close(self) -> None:
        """Stop hearing; safe to repeat."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _prepare(tap: socket.socket, program: bytes, blocks: int) -> mmap.mmap:
    """Put filter and ring on a socket of protocol 0, which hears nothing, and only then bind it.

    Raises OSError.
    """
    _attach(tap, program)
    tap.setsockopt(_SOL_PACKET, _VERSION, _V3)
    size = BLOCK * blocks
    # struct tpacket_req3
    request = struct.pack("=7I", BLOCK, blocks, _FRAME, size // _FRAME, RETIRE, 0, 0)
    tap.setsockopt(_SOL_PACKET, _RX_RING, request)
    memory = mmap.mmap(tap.fileno(), size)
    try:
        _bind_to_all(tap)
    except OSError:
        memory.close()
        raise
    return memory


def _attach(tap: socket.socket, program: bytes) -> None:
    """Give a socket its filter, in place of one that it has; raise OSError."""
    import ctypes  # costs 3 ms that a process which listens to nothing need not pay

    buffer = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("HP", len(program) // 8, ctypes.addressof(buffer))  # struct sock_fprog
    tap.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)


def _bind_to_all(tap: socket.socket) -> None:
    """Bind to every interface (index 0), which :meth:`socket.socket.bind` has no name for."""
    import ctypes

    # struct sockaddr_ll: family, protocol in network order, index, and what bind() ignores
    address = struct.pack("=HHi", socket.AF_PACKET, socket.htons(_ETH_P_ALL), 0) + bytes(12)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.bind(tap.fileno(), address, len(address)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
