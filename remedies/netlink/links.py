"""Links and local addresses, as values."""

from __future__ import annotations

from typing import Optional

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
    mtu: int = 0
    """Octets of the largest packet; 0: not known."""


@dataclass(frozen=True)
class Address:
    """One local address with its subnet."""

    address: str
    prefix: int
    link: int
    """Index of the link that carries it."""
    scope: str
    """``global``, ``link`` or ``host``."""
    announced: bool = False
    """The kernel made it of a router's announcement (known since Linux 5.18)."""

    def __post_init__(self) -> None:
        """Raise ValueError for a prefix there is not: saved facts are a person's to edit."""
        if not 0 <= self.prefix <= (128 if self.family == 6 else 32):
            raise ValueError(f"no address with prefix: {self.address}/{self.prefix}")

    @property
    def family(self) -> int:
        """Return 4 or 6."""
        return 6 if ":" in self.address else 4

    @property
    def subnet(self) -> str:
        """Return the address with its prefix: ``172.17.0.1/16``."""
        return f"{self.address}/{self.prefix}"


@dataclass(frozen=True)
class BridgeNetwork:
    """A subnet of this host's own behind a bridge: containers, or virtual machines."""

    link: str
    subnet: str
    """The bridge's address with its prefix: ``172.17.0.1/16``."""

    @property
    def family(self) -> int:
        """Return 4 or 6."""
        return 6 if ":" in self.subnet else 4


@dataclass(frozen=True)
class Links:
    """The interfaces and addresses of this namespace."""

    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()

    @property
    def local(self) -> frozenset[str]:
        """Return every local address, without its prefix."""
        return frozenset(item.address for item in self.addresses)

    def name(self, index: int) -> str:
        """Return the name of link ``index``, or ``#index`` when there is none."""
        return next((link.name for link in self.links if link.index == index), f"#{index}")

    def index(self, name: str) -> Optional[int]:
        """Return the number of the interface with a name; None for none of that name."""
        return next((link.index for link in self.links if link.name == name), None)

    def kind(self, index: int) -> str:
        """Return what kind link ``index`` is; empty for hardware and where there is none."""
        return next((link.kind for link in self.links if link.index == index), "")

    def of_rules(self, index: int) -> int:
        """Return the link that rules and routes see: the bridge, for a packet by its port."""
        found = next((link for link in self.links if link.index == index), None)
        return index if found is None or found.master is None else found.master

    def networks(self) -> tuple[BridgeNetwork, ...]:
        """Return the networks behind bridges of which something is plugged in, and no hardware.

        A bridge with a port of hardware is this host's own way out, or another one's wire.
        """
        ports: dict[int, list[Link]] = {}
        for link in self.links:
            if link.master is not None and link.up:
                ports.setdefault(link.master, []).append(link)
        inner = {
            link.index: link.name
            for link in self.links
            if link.kind == "bridge"
            and link.up
            and ports.get(link.index)
            and all(port.kind for port in ports[link.index])
        }
        return tuple(
            BridgeNetwork(inner[item.link], item.subnet)
            for item in self.addresses
            if item.link in inner and item.scope == "global"
        )

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

        Those on links that are up, without IPv6's link-local ones: a reply to such an address
        leaves by the link it came from. Addresses that somebody has put on the loopback
        interface are among them (anycast, direct routing), 127.0.0.0/8 and ::1 are not.
        """
        up = {link.index for link in self.links if link.up}
        return tuple(
            item
            for item in self.addresses
            if item.link in up
            and item.family == family
            and not (family == 6 and item.scope == "link")
            and not item.address.startswith("127.")
            and item.address != "::1"
        )

    def askable(self) -> dict[int, tuple[str, ...]]:
        """Return those addresses, each once, by family 4 and 6.

        From two of them on a socket on every address may be asked on one that the kernel would
        not answer from: in one subnet the first address is what answers come from.
        """
        return {
            family: tuple(dict.fromkeys(item.address for item in self.reachable(family)))
            for family in (4, 6)
        }
