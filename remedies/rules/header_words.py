"""Conditions on what a packet's sender, or its way, writes into its headers: their names. Pure.

All of one kind have one name, whichever tool wrote them, and whatever they compare with: no packet
can be told to meet one, but some do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

HOPS, SERVICE, WORDS = "ttl", "tos", "string"
ETHERNET, NEIGHBOUR = "ethernet", "mac"
NO_TUNNEL, TUNNEL = "no ipsec", "ipsec"

LINK = frozenset((ETHERNET, NEIGHBOUR))
"""Of the link that a packet came by: what begins here has none."""
CHOSEN = frozenset((HOPS, SERVICE, f"bits of {SERVICE}", "ecn", WORDS, *LINK, NO_TUNNEL))
"""Some of those that come from elsewhere meet each of them. Not so what comes by a tunnel of
IPsec: whether NAT's flows do is not known."""

ON_ARRIVAL = CHOSEN - {WORDS} | {TUNNEL}
"""No look at the destination, nor at a conntrack entry."""

_AT: Mapping[str, Mapping[tuple[int, int], str]] = {
    "ip": {(1, 1): SERVICE, (8, 1): HOPS},
    "ip6": {(0, 2): SERVICE, (7, 1): HOPS},
}
"""By IP version, and by offset and length in its header: RFC 791, 3.1 and RFC 8200, 3."""
_ETHER = 1  # ARPHRD_ETHER, include/uapi/linux/if_arp.h
_XT = {"ttl": HOPS, "hl": HOPS, "dscp": SERVICE, "tos": SERVICE}


def kind(name: str) -> str:
    """Return what a condition is about: bits of a field are of that field."""
    return name.rpartition(" ")[2] if name == f"bits of {SERVICE}" else name


def at(version: str, base: int, offset: int, length: int) -> str:
    """Return the name of the field there, empty for another; base 0: the link's header."""
    if base == 0:
        return NEIGHBOUR if (offset, length) == (6, 6) else ""
    return _AT.get(version, {}).get((offset, length), "") if base == 1 else ""


def of_link(types: Sequence[int], *, negate: bool) -> str:
    """Return the name of a condition on the type of the link that a packet came by."""
    return ETHERNET if list(types) == [_ETHER] and not negate else "meta iiftype"


def of_tunnel(known: bool) -> str:
    """Return the name of a condition on whether a packet came by a tunnel of IPsec."""
    return TUNNEL if known else NO_TUNNEL


def of_xt(name: str) -> str:
    """Return the name of an xtables match; its own for others."""
    return _XT.get(name, name)
