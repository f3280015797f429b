"""The process behind a UDP socket, found by the tuple of a packet."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from typing import Optional

from remedies.errors import Unreadable
from remedies.facts import processes
from remedies.facts.process import Process
from remedies.facts.sockets import ANY
from remedies.netlink import diag
from remedies.netlink.flow import Tuple
from remedies.netlink.socket import NETLINK_SOCK_DIAG, Netlink

_MOST = 256
"""Sockets whose process is remembered."""
_MOST_ADDRESSES = 64
"""Local addresses that one refusal is asked about."""
_PATIENCE = 0.5


class Holders:
    """Looks sockets up in sock_diag and their processes in /proc, each once."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._known: dict[int, Optional[Process]] = {}
        self._client: Optional[Netlink] = None
        self.unread: dict[str, None] = {}

    def of(self, local: tuple[str, int], remote: tuple[str, int]) -> tuple[Optional[Process], bool]:
        """Return whose socket takes a datagram from ``remote`` to ``local``; None: not known.

        And whether that socket is connected to ``remote``.
        """
        found = self._socket(local, remote)
        if found is None:
            return None, False
        return self._process(found), found.remote[1] == remote[1]

    def listener(self, local: tuple[str, int]) -> Optional[Process]:
        """Return whose TCP socket listens on an address and port; None: not known."""
        remote = ("::" if ":" in local[0] else "0.0.0.0", 0)  # noqa: S104  # named, not bound
        found = self._socket(local, remote, "tcp")
        return self._process(found) if found is not None and found.inode else None

    def connected(
        self, asked: Tuple, local: Iterable[str]
    ) -> tuple[Optional[str], Optional[Process]]:
        """Return on which other local address a socket is connected to the sender of ``asked``.

        And its process; (None, None) where there is none.
        """
        remote = asked.source, asked.source_port
        others = [a for a in sorted(local) if (":" in a) == (":" in asked.source)]
        for address in others[:_MOST_ADDRESSES]:
            if address == asked.destination:
                continue
            found = self._socket((address, asked.destination_port), remote)
            if found is not None and found.remote[1] == asked.source_port:
                return address, self._process(found)
        return None, None

    def _socket(
        self, local: tuple[str, int], remote: tuple[str, int], protocol: str = "udp"
    ) -> Optional[diag.Socket]:
        try:
            if self._client is None:
                self._client = Netlink(NETLINK_SOCK_DIAG)
            self._client.deadline = time.monotonic() + _PATIENCE
            found = diag.by_tuple(self._client, protocol, local, remote)
            return found or self._of_a_link(self._client, protocol, local)
        except (OSError, Unreadable) as error:
            self.unread[f"sockets: {error}"] = None
            return None

    def _of_a_link(
        self, client: Netlink, protocol: str, local: tuple[str, int]
    ) -> Optional[diag.Socket]:
        """Return the one socket of an address that is bound to a link; None: none, or several.

        A look-up that names no link does not find it (SO_BINDTODEVICE, socket(7)).
        """
        found = [
            each
            for each in diag.by_local_port(client, protocol, local[1])
            if each.interface and each.local[0] in (local[0], *ANY.values())
        ]
        return found[0] if len(found) == 1 else None

    def _process(self, found: diag.Socket) -> Optional[Process]:
        if found.inode not in self._known:
            if len(self._known) >= _MOST:
                return None
            family = 6 if found.family == socket.AF_INET6 else 4
            seen, unread = processes.look_up({found.inode: family}, time.monotonic() + _PATIENCE)
            self.unread.update(dict.fromkeys(unread))
            self._known[found.inode] = seen[found.inode].owner if found.inode in seen else None
        return self._known[found.inode]

    def close(self) -> None:
        """Close the socket; safe to repeat."""
        if self._client is not None:
            self._client.close()
            self._client = None
