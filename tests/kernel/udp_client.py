"""A UDP server on every address of a host, and clients in its container that say what they got."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from tracked import remember

from remedies.lab import datagram
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, World

PORT = 56789


@dataclass
class Client:
    """One connected UDP socket in the container, and an ear for answers that it never gets."""

    end: socket.socket
    ear: socket.socket
    address: str
    number: int = 0

    def ask(self, patience: float = 20 * datagram.PATIENCE) -> str:
        """Send one datagram; return ``answered``, ``refused`` or, after ``patience``, why not."""
        self.number += 1
        line = f"question {self.number} of {self.end.getsockname()[1]}.".encode()
        why = datagram._attempt(self.end, self.ear, line, self.address, patience)
        return ("refused" if "was refused" in why else why) or "answered"

    def drain(self, quiet: float = 0) -> None:
        """Forget what was answered and heard so far, until nothing comes for ``quiet`` seconds."""
        for one, size in ((self.end, 100), (self.ear, 1)):
            while select.select([one], [], [], quiet)[0]:
                with contextlib.suppress(ConnectionRefusedError):
                    one.recv(size)


@contextlib.contextmanager
def client(world: World, address: str, port: int = PORT) -> Iterator[Client]:
    """Connect a socket of the container's to one of the host's addresses."""
    with (
        datagram.client(world, "client", addresses(world).family) as end,
        world.socket("client", socket.AF_PACKET, socket.SOCK_DGRAM) as ear,
    ):
        ear.bind(("eth0", 3))  # ETH_P_ALL
        end.connect((address, port))
        yield Client(end, ear, address)


@contextlib.contextmanager
def serving(nat: str, family: int, backend: str | None = None) -> Iterator[World]:
    """Make a world whose host serves the port on every address."""
    with World("udp-reply-source", Options(nat, family, backend=backend)) as world:
        container_host(world)
        remember(world)
        world.start(
            "host", ["remedies.lab.udp_server", "::" if family == 6 else "0.0.0.0", "56789"]
        )
        yield world
