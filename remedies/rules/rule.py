"""A rule of somebody's ruleset that matters to us, whichever tool wrote it."""

from __future__ import annotations

from typing import Literal, Optional, get_args

from remedies.values import dataclass, field

NatAction = Literal["dnat", "redirect", "snat", "masquerade"]
"""What a rule does that rewrites addresses."""
NAT_ACTIONS: tuple[NatAction, ...] = get_args(NatAction)

CONNTRACK_PRIORITY = -200
"""NF_IP_PRI_CONNTRACK (include/uapi/linux/netfilter_ipv4.h): notrack works before it, and the
state is known after it."""
JUMP_DEPTH = 16
"""NFT_JUMP_STACK_SIZE (include/net/netfilter/nf_tables.h): a way through chains is no deeper."""

ONE_OF_ALL = "one of all"
"""What is not modelled of a rule behind a map of verdicts that has one for each lot that is drawn:
some packets take it, and each takes one of them."""

PortRange = tuple[int, int]
"""First and last port, both included."""


@dataclass(frozen=True)
class Match:
    """The packets a rule sees, along its whole path from the base chain. Empty means any.

    Addresses are prefixes (``172.17.0.0/16``), interface names may end in ``*``. ``unmodelled``
    names the matches that are not represented: they make the real match narrower, so a
    disjoint answer stays true and an overlapping one becomes "maybe".
    """

    protocols: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    not_sources: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    not_destinations: tuple[str, ...] = ()
    source_ports: tuple[PortRange, ...] = ()
    destination_ports: tuple[PortRange, ...] = ()
    in_interfaces: tuple[str, ...] = ()
    not_in_interfaces: tuple[str, ...] = ()
    out_interfaces: tuple[str, ...] = ()
    not_out_interfaces: tuple[str, ...] = ()
    destination_local: Optional[bool] = None
    """``addrtype --dst-type LOCAL`` or ``fib daddr type local``: True, its opposite: False."""
    source_local: Optional[bool] = None
    """The same of the source: ``addrtype --src-type LOCAL`` or ``fib saddr type local``."""
    states: tuple[str, ...] = ()
    """Conntrack states, lower case."""
    unmodelled: tuple[str, ...] = ()


@dataclass(frozen=True)
class PacketRule:
    """One rule, where it stands, what it does, and which packets reach it."""

    backend: str
    """``nft``, ``iptables-nft`` or ``iptables-legacy``."""
    family: str
    """``ip``, ``ip6`` or ``inet``."""
    table: str
    chain: str
    hook: str
    """The hook it is reached from: prerouting, input, forward, output or postrouting."""
    action: str
    """``dnat``, ``redirect``, ``snat``, ``masquerade``, ``notrack`` or ``drop-invalid``."""
    text: str
    """The rule as its own tool prints it; with ``# handle 7`` or its number where that is not
    known word for word."""
    match: Match = field(default_factory=Match)
    to: str = ""
    """Where NAT sends or takes the address and port (``172.17.0.2:53``), empty where unknown."""
    after: tuple[Match, ...] = ()
    """Packets that an earlier rule on the way takes first: they never get here."""
    owner: str = ""
    """``remedy``, ``docker``, ``kube-proxy``, ``ufw``, ``firewalld``, ``calico``; or empty."""
    version: str = ""
    """``ip`` or ``ip6``: of its packets these alone are meant; empty for all of its family."""

    @property
    def versions(self) -> tuple[str, ...]:
        """Return the IP versions of the packets that are meant: ``ip``, ``ip6``, or both."""
        if self.version:
            return (self.version,)
        return ("ip", "ip6") if self.family == "inet" else (self.family,)

    @property
    def ours(self) -> bool:
        """Tell whether remedy wrote it."""
        return self.owner == "remedy"

    @property
    def line(self) -> str:
        """Return the text without its handle or number, which change when rules are loaded anew."""
        return self.text.partition(" # handle ")[0].partition("  # rule ")[0]

    @property
    def named(self) -> str:
        """Return the rule, where it stands, and whose it is: what finds it by copy."""
        return f"'{self.text}' ({self.place}{f', {self.owner}' if self.owner else ''})"

    @property
    def place(self) -> str:
        """Return where the rule stands, as a person would look it up."""
        return f"{self.backend} {self.family} {self.table} {self.chain}"
