"""A TCP client of our own making: what it sends it decides, and nobody answers for it.

Its own namespace drops the resets with which the kernel would answer for a port it knows nothing
of. Layouts: RFC 9293; the SACK option: RFC 2018.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import NamedTuple

from cross import Cross

from remedies.lab.segment import checksum

FIN, SYN, RST, ACK, PUSH = 0x01, 0x02, 0x04, 0x10, 0x08
_SACK_PERMITTED = bytes((1, 1, 4, 2))


class Said(NamedTuple):
    """What of a segment matters here."""

    flags: int
    sequence: int
    length: int
    window: int


class RawClient:
    """One connection from the client of a world."""

    end: socket.socket
    """The server's, where a test has taken it."""

    def __init__(self, cross: Cross, port: int, to: tuple[str, int]) -> None:
        self._cross, self._port, self._to = cross, port, to
        self.here = cross.at(1, 2)
        cross.run(
            cross.client, "nft",
            f"add table inet quiet{port}; add chain inet quiet{port} out "
            "{ type filter hook output priority 0; }; add rule inet "
            f"quiet{port} out tcp sport {port} tcp flags rst meta mark != 7 drop",
        )  # fmt: skip
        self._out = cross.open(cross.client, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self._out.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)
        self._in = cross.open(cross.client, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self.sequence, self.expected = 1000, 0
        self._window = 1

    def __enter__(self) -> RawClient:
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close its sockets; the connection is left as it is."""
        self._out.close()
        self._in.close()

    def send(
        self, flags: int, data: bytes = b"", options: bytes = b"", *, off: int = 0, ack: int = 0,
        broken: bool = False,
    ) -> None:  # fmt: skip
        """Send a segment from where the connection stands, or ``off`` bytes from there.

        ``broken``: its checksum is wrong, as a box on the way may leave it.
        """

        def header(sum_: int) -> bytes:
            offset = (20 + len(options)) << 2
            return struct.pack(
                ">HHIIBBHHH", self._port, self._to[1], (self.sequence + off) % (1 << 32),
                (self.expected + ack) % (1 << 32), offset, flags, 65000, sum_, 0,
            ) + options + data  # fmt: skip

        body = header(0)
        family = self._cross.family
        ends = b"".join(socket.inet_pton(family, a) for a in (self.here, self._to[0]))
        size = struct.pack(">I3xB" if family == socket.AF_INET6 else ">HxB", len(body), 6)
        if family == socket.AF_INET:
            size = struct.pack(">xBH", 6, len(body))
        right = checksum(ends + size + body)
        self._out.sendto(header(right ^ 0x1111 if broken else right), (self._to[0], 0))

    def hear(self, flags: int, seconds: float = 2) -> bool:
        """Wait for a segment with these flags, and take its numbers; False where none comes."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self._in], [], [], left)[0]:
                break
            said = self._said()
            if said is not None and said.flags & flags == flags:
                counts = bool(said.flags & (SYN | FIN))
                self.expected = (said.sequence + said.length + counts) % (1 << 32)
                return True
        return False

    def room(self) -> bool:
        """Tell whether the last segment that came said that there is room for more."""
        while select.select([self._in], [], [], 0.05)[0]:
            said = self._said()
            if said is not None:
                self._window = said.window
        return self._window > 0

    def _said(self) -> Said | None:
        packet = self._in.recv(2000)
        if self._cross.family == socket.AF_INET:
            packet = packet[4 * (packet[0] & 15) :]
        source, port, sequence, _, offset, flags, window = struct.unpack_from(">HHIIBBH", packet)
        if (source, port) != (self._to[1], self._port):
            return None
        return Said(flags, sequence, len(packet) - 4 * (offset >> 4), window)

    def connect(self) -> None:
        """Shake hands, offering SACK."""
        self.send(SYN, options=struct.pack(">BBH", 2, 4, 1460) + _SACK_PERMITTED)
        assert self.hear(SYN | ACK)
        self.sequence += 1
        self.send(ACK)

    def sack(self) -> bytes:
        """Return a SACK option whose block lies where a box that moves numbers leaves it."""
        first = (self.expected + 900_000_000) % (1 << 32)
        return bytes((1, 1, 5, 10)) + struct.pack(">II", first, (first + 100) % (1 << 32))
