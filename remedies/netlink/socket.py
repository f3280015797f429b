"""One netlink socket: requests, dumps that stream, checked messages and attributes.

Everything that arrives is checked before it is used: a message or attribute whose length is
impossible raises :class:`~remedies.errors.Unreadable`, and every wait ends at a deadline. Numbers
are those of include/uapi/linux/netlink.h; RFC 3549 describes the framing.

::

    with Netlink(NETLINK_ROUTE) as client:
        for kind, payload in client.dump(RTM_GETLINK, ifinfomsg):
            for number, value in attributes(payload, 16): ...
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Iterator

from remedies.errors import Unreadable

NETLINK_ROUTE = 0
NETLINK_SOCK_DIAG = 4
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_ACK_TLVS = 0x200
NLM_F_CAPPED = 0x100
NLM_F_DUMP = 0x300

NLMSG_NOOP = 1
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSG_OVERRUN = 4

NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF  # NLA_F_NESTED and NLA_F_NET_BYTEORDER taken off

_SOL_NETLINK = 270  # include/linux/socket.h
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12
_NLMSGERR_ATTR_MSG = 1
_MAX_ERRNO = 4095  # include/linux/err.h
# A dump fills at most 32 KiB a datagram (netlink_dump() in net/netlink/af_netlink.c), but one
# message may be longer than that: an nf_tables rule reaches 64 KiB.
_DATAGRAM = 1 << 17
SMALL = 1 << 15
"""Octets of what a dump fills, at most; below what malloc() asks the kernel for each time."""
_REPEATS = 4
_CUT_OFF = int(socket.MSG_TRUNC)  # an enumeration's & costs as much as the rest of a datagram

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
_INT = struct.Struct("=i")

Message = tuple[int, bytes]
"""Message type, and what follows its header."""


class Interrupted(Unreadable):
    """The table changed while it was being dumped (NLM_F_DUMP_INTR): what was read is not one."""

    at_end = False
    """It changed after the last message, so that more may have been there to be read."""


def attribute(number: int, payload: bytes) -> bytes:
    """Return one attribute, padded to four bytes, ready to be joined to others."""
    return _ATTRIBUTE.pack(4 + len(payload), number) + payload + bytes(-len(payload) % 4)


def nested(number: int, *attributes_: bytes) -> bytes:
    """Return an attribute that holds others."""
    return attribute(number | NLA_F_NESTED, b"".join(attributes_))


def attributes(buffer: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield number (flags taken off) and payload of each attribute from ``offset`` on.

    Raises Unreadable where an attribute's length is impossible. Fewer than four bytes at the end
    are padding, as for the kernel's nla_ok().
    """
    end = len(buffer)
    while end - offset >= 4:
        length, number = _ATTRIBUTE.unpack_from(buffer, offset)
        if length < 4 or length > end - offset:
            raise Unreadable(f"netlink: attribute {number & NLA_TYPE_MASK} of length {length}")
        yield number & NLA_TYPE_MASK, buffer[offset + 4 : offset + length]
        offset += length + 3 & ~3


def message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """Return one whole message (the port is left to the kernel)."""
    return _HEADER.pack(16 + len(payload), kind, flags, sequence, 0) + payload


def messages(datagram: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield type, flags, sequence number and payload of each message of a datagram.

    Raises Unreadable where a length is impossible or bytes are left over.
    """
    offset, end = 0, len(datagram)
    while offset < end:
        if end - offset < 16:
            raise Unreadable(f"netlink: {end - offset} bytes left over after a message")
        length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, offset)
        if length < 16 or length > end - offset:
            raise Unreadable(f"netlink: message {kind} of length {length} in {end - offset} bytes")
        yield kind, flags, sequence, datagram[offset + 16 : offset + length]
        offset += length + 3 & ~3


def failure(flags: int, payload: bytes) -> OSError | None:
    """Return what an NLMSG_ERROR says, None for an acknowledgement.

    The kernel's own sentence (extended ack, Linux 4.12) is in ``strerror`` where there is one.
    Raises Unreadable where the payload is too short to be one, or holds no error number.
    """
    if len(payload) < 20:  # struct nlmsgerr: errno and the header it answers
        raise Unreadable(f"netlink: error message of {len(payload)} bytes")
    number = -_INT.unpack_from(payload)[0]
    if number == 0:
        return None
    if not 0 < number <= _MAX_ERRNO:
        raise Unreadable(f"netlink: error number {number}")
    text = os.strerror(number)
    if flags & NLM_F_ACK_TLVS:
        (length,) = struct.unpack_from("=I", payload, 4)
        start = 20 if flags & NLM_F_CAPPED else 4 + length
        for kind, value in attributes(payload, start):
            if kind == _NLMSGERR_ATTR_MSG:
                text = f"{text} ({value.rstrip(bytes(1)).decode(errors='replace')})"
    return OSError(number, text)


class Netlink:
    """One socket in the namespace that the process is in when it is made. Not thread-safe."""

    def __init__(
        self,
        protocol: int,
        deadline: float | None = None,
        *,
        strict: bool = False,
        largest: int = _DATAGRAM,
        explained: bool = True,
    ):
        """Open a socket of ``protocol``.

        ``deadline``: monotonic time at which waiting ends (default: in five seconds).
        ``strict``: ask the kernel to check dump requests and to honour their filters
        (NETLINK_GET_STRICT_CHK, Linux 4.20; without effect before). ``largest``: octets of a
        datagram, at most :data:`SMALL` where no single message is longer: such a buffer is cheap.
        ``explained``: ask for the kernel's own sentence with an error; two calls that who asks
        many namespaces for what cannot be wrong does without.
        """
        self.deadline = time.monotonic() + 5.0 if deadline is None else deadline
        self._sequence = 0
        self._largest = largest
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        except OSError as error:
            raise Unreadable(f"netlink protocol {protocol}: {error.strerror}") from error
        if explained:  # an older kernel that does not know these options costs their comfort only
            self._option(_NETLINK_EXT_ACK)
            self._option(_NETLINK_CAP_ACK)
        if strict:
            self._option(_NETLINK_GET_STRICT_CHK)

    def _option(self, option: int) -> bool:
        try:
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        except OSError:
            return False
        return True

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; safe to repeat."""
        self._socket.close()

    def _send(self, kind: int, flags: int, payload: bytes) -> int:
        self._left()
        self._sequence += 1
        self._socket.send(message(kind, flags | NLM_F_REQUEST, self._sequence, payload))
        return self._sequence

    def _receive(self) -> bytes:
        """Return one datagram of the kernel's; raise Unreadable at the deadline.

        Most answers are there as soon as the question is sent: such a one is taken though nobody
        would wait for it any longer, as who sent it may have got no processor since.
        """
        while True:
            try:
                datagram, _, flags, sender = self._socket.recvmsg(
                    self._largest, 0, socket.MSG_DONTWAIT
                )
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._socket, select.POLLIN)
                poll.poll(self._left() * 1000)
                continue
            if sender[0] != 0:  # any process may write to a netlink socket; only port 0 is kernel
                self._left()
                continue
            if flags & _CUT_OFF or not datagram:
                raise Unreadable("netlink: a datagram was cut off")
            return datagram

    def _left(self) -> float:
        """Return the seconds until the deadline; raise Unreadable once there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Unreadable("netlink: the kernel's answer took too long")
        return left

    def dump(self, kind: int, payload: bytes = b"", flags: int = 0) -> Iterator[Message]:
        """Yield type and payload of every message of a dump, as they arrive.

        Raises OSError with the kernel's error number, Unreadable for what is not netlink or comes
        after the deadline, and :class:`Interrupted` at the end of a dump that the kernel calls
        inconsistent. A dump that the caller leaves before its end closes this client.
        """
        sequence = self._send(kind, flags | NLM_F_DUMP, payload)
        ended, consistent, at_end = False, True, False
        try:
            while not ended:
                self._left()  # a dump goes on for as long as its table is read
                for got, marks, number, body in messages(self._receive()):
                    if number != sequence:
                        continue
                    if marks & NLM_F_DUMP_INTR:  # on the first message after each change
                        consistent, at_end = False, got == NLMSG_DONE
                    if got > NLMSG_OVERRUN:
                        yield got, body
                    elif got == NLMSG_DONE:
                        ended = True
                        _raise_done(body)
                    elif got == NLMSG_ERROR:
                        ended = True
                        error = failure(marks, body)
                        if error is not None:
                            raise error
                    elif got == NLMSG_OVERRUN:
                        raise Unreadable("netlink: messages were lost")
        finally:
            if not ended:
                self.close()
        if not consistent:
            broken = Interrupted("netlink: the table kept changing while it was read", "try again")
            broken.at_end = at_end
            raise broken

    def table(self, kind: int, payload: bytes = b"", flags: int = 0) -> list[Message]:
        """Return a whole dump, begun again a few times where the kernel calls it inconsistent.

        Raises what :meth:`dump` raises. For tables that are small by nature.
        """
        for _ in range(_REPEATS - 1):
            try:
                return list(self.dump(kind, payload, flags))
            except Interrupted:
                continue
        return list(self.dump(kind, payload, flags))

    def ask(self, kind: int, payload: bytes = b"") -> bytes:
        """Return the payload of the one message that answers a question.

        Raises OSError with the kernel's error number, and Unreadable as :meth:`dump` does.
        """
        sequence = self._send(kind, 0, payload)
        while True:
            for got, marks, number, body in messages(self._receive()):
                error = failure(marks, body) if got == NLMSG_ERROR else None
                if number == sequence and error is not None:
                    raise error
                if number == sequence and got > NLMSG_OVERRUN:
                    return body

    def request(self, kind: int, payload: bytes = b"", flags: int = 0) -> list[Message]:
        """Send one request and return what the kernel answers before its acknowledgement.

        Raises OSError with the kernel's error number, and Unreadable as :meth:`dump` does.
        """
        sequence = self._send(kind, flags | NLM_F_ACK, payload)
        answers: list[Message] = []
        while True:
            for got, marks, number, body in messages(self._receive()):
                if number != sequence:
                    continue
                if got == NLMSG_ERROR:
                    error = failure(marks, body)
                    if error is not None:
                        raise error
                    return answers
                if got > NLMSG_OVERRUN:
                    answers.append((got, body))


def _raise_done(body: bytes) -> None:
    """Raise the error that an NLMSG_DONE carries, if any (netlink_dump_done(), Linux 2.6.12)."""
    if len(body) >= 4:
        (number,) = _INT.unpack_from(body)
        if number < 0:
            raise OSError(-number, os.strerror(-number))
