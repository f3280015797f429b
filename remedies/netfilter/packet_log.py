"""What the kernel logs of packets by netlink (nfnetlink_log), as far as conntrack says it.

conntrack has a sentence for what it calls INVALID (nf_tcp_log_invalid() and its kind in
net/netfilter/nf_conntrack_proto_*.c) and for what a helper drops (nf_ct_helper_log()). It says
them while ``nf_conntrack_log_invalid`` is set, to the logger that the namespace's ``nf_log.2`` and
``nf_log.10`` name. That is nobody else's way: a rule that logs names its own kind of logger
(nf_log_packet(), net/netfilter/nf_log.c). ``nfnetlink_log`` hands them to who has group 0, which
is the first that asks for it and ends with its socket.

Numbers are those of include/uapi/linux/netfilter/nfnetlink_log.h.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import struct
from collections.abc import Iterator
from typing import Optional

from remedies.errors import NotPermitted, RemedyError, Unreadable
from remedies.netlink.flow import Tuple
from remedies.netlink.nft import HEADER
from remedies.netlink.socket import (
    NETLINK_NETFILTER,
    Netlink,
    attribute,
    attributes,
    messages,
)
from remedies.tap.drops import decode_ip
from remedies.values import NamedTuple

LOGGER = "nfnetlink_log"
"""What ``nf_log.2`` calls it."""
_GROUP = 0
_PACKET, _CONFIG = 4 << 8, 4 << 8 | 1  # NFNL_SUBSYS_ULOG; NFULNL_MSG_*
_CFG_CMD, _CFG_MODE, _CMD_BIND, _COPY_PACKET = 1, 2, 1, 2
_PAYLOAD, _PREFIX = 9, 10  # NFULA_*
_OCTETS = 128
"""Of each packet: two headers with all their options."""
_SENTENCE = re.compile(r"nf_ct_(proto_\d+|[\w-]+): (.*\S)")
_SO_MEMINFO, _DROPS = 55, 8  # include/uapi/asm-generic/socket.h, linux/sock_diag.h
_SO_RCVBUFFORCE = 33
_NO_ENOBUFS = 5  # NETLINK_NO_ENOBUFS: go on with what comes after a loss
_BUFFER = 1 << 20
_MOST = 4096
"""Datagrams that are read at once, a packet each: more than the buffer holds."""
_BINDINGS = "/proc/thread-self/net/netfilter/nfnetlink_log"


class LoggedPacket(NamedTuple):
    """One packet, and what conntrack says of it."""

    sentence: str
    """As the kernel has it: ``SEQ is over upper bound 1234 (over the window of the receiver)``."""
    protocol: str
    way: Tuple
    flags: int = 0
    """TCP's."""


def sentence_of(body: bytes) -> Optional[LoggedPacket]:
    """Return what a message of the kernel says; None for what is no sentence of conntrack's.

    Raises Unreadable for what is no message.
    """
    got = dict(attributes(body, HEADER))
    prefix = got.get(_PREFIX, b"").rstrip(b"\0").decode(errors="replace")
    said, packet = _SENTENCE.match(prefix), decode_ip(got.get(_PAYLOAD, b""))
    if said is None or packet is None or packet.way is None:
        return None
    part, sentence = said.groups()
    helper = "" if part.startswith("proto_") else f"{part}: "
    return LoggedPacket(helper + sentence, packet.protocol, packet.way, packet.flags)


class PacketLog(Netlink):
    """Group 0 of the namespace that the process is in, as long as it is open."""

    def __init__(self) -> None:
        """Take the group. Raises RemedyError where somebody has it, NotPermitted, Unreadable."""
        super().__init__(NETLINK_NETFILTER)
        try:
            self._option(_NO_ENOBUFS)
            with contextlib.suppress(PermissionError):  # the usual buffer loses sooner, and says so
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            self._configure(attribute(_CFG_CMD, bytes((_CMD_BIND,))))
            self._configure(attribute(_CFG_MODE, struct.pack(">IBx", _OCTETS, _COPY_PACKET)))
        except OSError as error:
            self.close()
            raise _refused(error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> PacketLog:
        return self

    def _configure(self, wanted: bytes) -> None:
        self.request(_CONFIG, struct.pack(">BBH", 0, 0, _GROUP) + wanted)

    def read(self) -> Iterator[LoggedPacket]:
        """Yield what has been said since the last look, without waiting. Raises Unreadable."""
        for _ in range(_MOST):
            try:
                datagram, sender = self._socket.recvfrom(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            for kind, _, _, body in messages(datagram) if sender[0] == 0 else ():
                said = sentence_of(body) if kind == _PACKET else None
                if said is not None:
                    yield said

    def lost(self) -> int:
        """Return how many packets found no room in the buffer."""
        size = 4 * (_DROPS + 1)
        words = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, size)
        return struct.unpack_from("=I", words, 4 * _DROPS)[0] if len(words) == size else 0


def _refused(error: OSError) -> RemedyError:
    if error.errno in (errno.EPERM, errno.EBUSY) and _taken():
        return RemedyError(
            "conntrack's sentences cannot be heard: another program has NFLOG group 0 here (ulogd, "
            "or another trace)",
            "read them there, or end it first",
        )
    if error.errno == errno.EPERM:
        return NotPermitted("conntrack's sentences cannot be heard: it takes CAP_NET_ADMIN",
                            "run as root")  # fmt: skip
    return Unreadable(
        f"conntrack's sentences cannot be heard: {error.strerror}", "it takes nfnetlink_log"
    )


def _taken() -> bool:
    """Tell whether somebody has the group."""
    with contextlib.suppress(OSError), open(_BINDINGS, encoding="ascii") as file:
        return any(line.split()[:1] == [str(_GROUP)] for line in file)
    return False
