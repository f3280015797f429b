"""A conntrack flow and its two tuples, as values."""

from __future__ import annotations

from remedies.values import dataclass


@dataclass(frozen=True)
class Tuple:
    """One direction of a flow: addresses as text, ports as numbers."""

    source: str
    source_port: int
    destination: str
    destination_port: int

    @property
    def reversed(self) -> Tuple:
        """Return the opposite direction."""
        return Tuple(self.destination, self.destination_port, self.source, self.source_port)

    @property
    def parts(self) -> tuple[str, int, str, int]:
        """Return the fields in their order."""
        return self.source, self.source_port, self.destination, self.destination_port


@dataclass(frozen=True)
class Flow:
    """One tracked connection. ``reply`` is what the kernel expects to come back, after NAT."""

    protocol: str
    """``tcp`` or ``udp``."""
    original: Tuple
    reply: Tuple
    seen_reply: bool
    nat: bool
    """SRC_NAT or DST_NAT is set."""
    assured: bool = False
    """It has gone both ways for a while, and is not ended early when the table is full."""
    zone: int = 0
    """The conntrack zone: the same tuple may be another flow in another one."""
    number: int = 0
    """The kernel's id of the entry, which another one of the same tuple does not have."""
    fixed: bool = False
    """An expectation made it, or a flowtable forwards it: rules have no say in where it goes."""
