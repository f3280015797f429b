"""One rule as the walk through a ruleset sees it, whichever store it came from.

A :class:`MatchTerms` collects a rule's conditions while it is decoded and narrows a ``Match`` by
one condition at a time, so that a decoder only says "this field lies in these ranges".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

from remedies.rules.matching import conjoin, narrowed, ports_except
from remedies.rules.prefixes import of_range
from remedies.rules.rule import Match, PortRange
from remedies.values import dataclass, replace

Span = tuple[int, int]
"""First and last value of a field, as numbers, both included."""

Mark = tuple[int, Optional[int]]
"""How a rule sets a mark: the bits that stay, and those that are turned then; None for these where
that is not known."""

STATES = {1: "invalid", 2: "established", 4: "related", 8: "new"}
"""NF_CT_STATE_BIT() of include/uapi/linux/netfilter/nf_conntrack_common.h. What stands for
untracked differs between nf_tables (64) and xt_conntrack (256)."""

PROTOCOLS = {
    1: "icmp",
    2: "igmp",
    6: "tcp",
    17: "udp",
    33: "dccp",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "icmpv6",
    132: "sctp",
    136: "udplite",
}

ALTERNATIVES = 512
"""Steps that one rule may become; past that its match is unmodelled."""

ADDRESS_BITS = {"ip": 32, "ip6": 128}

_ANY = Match()


@dataclass(frozen=True)
class Step:
    """A rule: the packets it sees, what it does to them on the way, and where it sends them."""

    match: Match
    verdict: str = ""
    """``accept``, ``drop``, ``return``, ``reject`` (an ICMP error), ``reset`` (a TCP reset),
    ``queue``, ``jump``, ``goto``; or empty: on to the next rule."""
    chain: str = ""
    """Where a jump or goto leads."""
    action: str = ""
    """``dnat``, ``redirect``, ``snat``, ``masquerade`` or ``notrack``; or empty."""
    to: str = ""
    conntrack: bool = False
    """It makes the kernel track connections."""
    comment: str = ""
    written: Optional[Match] = None
    """What the rule says itself, where sets of ipset narrow ``match``."""
    sets: tuple[str, ...] = ()
    """Its words for those sets, as iptables-save prints them."""
    raw: bytes = b""
    """The rule as the kernel gave it: what it is shown from, word for word."""
    mark: Optional[Mark] = None
    """How it sets the packet's mark."""


def protocol_name(number: int) -> str:
    """Return the protocol's name, or its number where it has none that rules use."""
    return PROTOCOLS.get(number, str(number))


def states_of(mask: int, untracked: int) -> tuple[str, ...]:
    """Return the state names of a mask; ``untracked`` is that state's bit in it."""
    found = [name for bit, name in STATES.items() if mask & bit]
    return (*found, "untracked") if mask & untracked else tuple(found)


class MatchTerms:
    """The conditions of one rule, gathered one by one."""

    def __init__(self) -> None:
        self.match: Match | None = _ANY
        """None once no packet can meet them all."""
        self._any_of: tuple[Match, ...] = (_ANY,)
        self._sets: tuple[str, ...] = ()

    def copy(self) -> MatchTerms:
        """Return the same conditions, to be narrowed apart from these."""
        made = MatchTerms()
        made.match, made._any_of, made._sets = self.match, self._any_of, self._sets
        return made

    def narrow(self, **conditions: object) -> None:
        """Add conditions: values of a match's fields."""
        if self.match is not None:
            self.match = narrowed(self.match, conditions)

    def unknown(self, name: str) -> None:
        """Add a condition that is not modelled."""
        self.narrow(unmodelled=(name,))

    def family(self, family: str) -> None:
        """Only packets of IPv4 (``ip``) or IPv6 (``ip6``): every source of that family."""
        self.narrow(sources=("0.0.0.0/0" if family == "ip" else "::/0",))

    def protocol(self, numbers: Iterable[int], *, negate: bool = False) -> None:
        """Only these protocols (0 in a list means any), or all but these."""
        names = tuple(protocol_name(number) for number in numbers)
        if not negate:
            self.narrow(protocols=names)
            return
        if not {"tcp", "udp"} & set(names):
            # What else there may be has no bearing on us; these two are what NAT rules are about.
            self.narrow(unmodelled=("! " + ",".join(names),))
            return
        others = tuple(name for name in PROTOCOLS.values() if name not in names)
        self.narrow(protocols=others)

    def addresses(self, side: str, prefixes: Sequence[str], *, negate: bool = False) -> None:
        """Only these prefixes (or all but these) as ``source`` or ``destination``."""
        values = tuple(prefixes)
        if side == "source":
            self.narrow(**{"not_sources" if negate else "sources": values})
        else:
            self.narrow(**{"not_destinations" if negate else "destinations": values})

    def spans(self, side: str, family: str, spans: Iterable[Span], *, negate: bool = False) -> None:
        """Only these address ranges, as numbers."""
        bits = ADDRESS_BITS[family]
        prefixes = [prefix for first, last in spans for prefix in of_range(bits, first, last)]
        self.addresses(side, prefixes, negate=negate)

    def ports(self, side: str, ranges: Iterable[PortRange], *, negate: bool = False) -> None:
        """Only these port ranges (or all but these) as ``source`` or ``destination``."""
        wanted = ports_except(ranges) if negate else tuple(ranges)
        if wanted == ((0, 65535),):
            return
        if not wanted:
            self.match = None
        elif side == "source":
            self.narrow(source_ports=wanted)
        else:
            self.narrow(destination_ports=wanted)

    def interfaces(self, side: str, names: Sequence[str], *, negate: bool = False) -> None:
        """Only these interfaces (or all but these) as ``in`` or ``out``; ``*`` ends a prefix."""
        values = tuple(names)
        if side == "in":
            self.narrow(**{"not_in_interfaces" if negate else "in_interfaces": values})
        else:
            self.narrow(**{"not_out_interfaces" if negate else "out_interfaces": values})

    def states(self, names: Sequence[str], *, negate: bool = False) -> None:
        """Only these conntrack states, or all but these."""
        every = (*STATES.values(), "untracked")
        wanted = tuple(name for name in every if (name in names) != negate)
        if wanted:
            self.narrow(states=wanted)
        else:
            self.match = None

    def local(self, side: str, wanted: bool) -> None:
        """Only packets to (or from, by ``side``) an address of this host, or none such."""
        self.narrow(**{f"{side}_local": wanted})

    def any_of(self, matches: Sequence[Match], name: str) -> None:
        """Only packets of one of these matches; too many of them count as unknown, by ``name``."""
        if len(matches) * len(self._any_of) > ALTERNATIVES:
            self.unknown(f"{name}: {len(matches)} alternatives")
            return
        met = (conjoin(one, other) for one in self._any_of for other in matches)
        self._any_of = tuple(match for match in met if match is not None)

    def note(self, words: Iterable[str]) -> None:
        """Keep what the rule says of a set."""
        self._sets = (*self._sets, " ".join(words))

    def steps(self, base: Step) -> tuple[Step, ...]:
        """Return the rule with these conditions, once for each alternative that can be met."""
        if self.match is None:
            return ()
        if not self._sets and self._any_of == (_ANY,):
            return (replace(base, match=self.match),)
        met = (conjoin(self.match, other) for other in self._any_of)
        written = replace(base, written=self.match, sets=self._sets)
        return tuple(replace(written, match=match) for match in met if match is not None)
