"""Links and local addresses, as values."""

from __future__ import annotations

import socket
from typing import Optional

from remedies.errors import Unreadable
from remedies.values import dataclass


@dataclass(frozen=True)
class Link:
    """One network interface."""

    index: int
    name: str
    kind: str
    """``bridge``, ``veth``, ``vlan`` ...; empty for hardware."""
    up: bool
    master: Optional[int] = None
    loopback: bool = False


@dataclass(frozen=True)
class Address:
    """One local address with its subnet."""

    address: str
    prefix: int
    link: int
    """Index of the link that carries it."""
    scope: str
    """``global``, ``link`` or ``host``."""

    @property
    def family(self) -> int:
        """Return 4 or 6."""
        return 6 if ":" in self.address else 4

    @property
    def subnet(self) -> tuple[int, int, int]:
        """Return family, prefix and network bits: equal for addresses of one subnet.

        Raises Unreadable where this is no address (a facts file that was edited).
        """
        family, width = (socket.AF_INET6, 128) if self.family == 6 else (socket.AF_INET, 32)
        try:
            number = int.from_bytes(socket.inet_pton(family, self.address), "big")
            return self.family, self.prefix, number >> (width - self.prefix)
        except (OSError, ValueError) as error:
            raise Unreadable(f"no address with prefix: {self.address}/{self.prefix}") from error


@dataclass(frozen=True)
class Links:
    """The interfaces and addresses of this namespace."""

    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()

    def name(self, index: int) -> str:
        """Return the name of link ``index``, or ``#index`` when there is none."""
        return next((link.name for link in self.links if link.index == index), f"#{index}")

    def kind(self, index: int) -> str:
        """Return what kind link ``index`` is; empty for hardware and where there is none."""
        return next((link.kind for link in self.links if link.index == index), "")

    def first(self, name: str, family: int) -> Optional[Address]:
        """Return the first address of family 4 or 6 on a link: where REDIRECT sends packets.

        In the kernel's order (nf_nat_redirect_ipv4() and _ipv6(), net/netfilter/nf_nat_redirect.c);
        IPv6's link-local ones come last there. None where the link has none.
        """
        return next(
            (
                item
                for item in self.addresses
                if item.family == family
                and self.name(item.link) == name
                and not (family == 6 and item.scope == "link")
            ),
            None,
        )

    def reachable(self, family: int) -> tuple[Address, ...]:
        """Return the addresses of family 4 or 6 that another machine or namespace can use.

        Those on links that are up and no loopback, without IPv6's link-local ones: a reply to
        such an address leaves by the link it came from.
        """
        usable = {link.index for link in self.links if link.up and not link.loopback}
        return tuple(
            item
            for item in self.addresses
            if item.link in usable
            and item.family == family
            and not (family == 6 and item.scope == "link")
        )

    def subnets(self, family: int) -> int:
        """Return how many subnets of family 4 or 6 the reachable addresses stand in."""
        return len({item.subnet for item in self.reachable(family)})
