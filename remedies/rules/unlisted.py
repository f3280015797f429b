"""Rules that a variant of iptables meets and cannot show, as values."""

from __future__ import annotations

from remedies.values import dataclass


@dataclass(frozen=True)
class UnlistedRules:
    """Rules of nft in one base chain of iptables-nft, which that tool cannot list."""

    family: str
    table: str
    chain: str
    handles: tuple[int, ...]
    """The kernel's numbers of the rules."""
    words: tuple[str, ...] = ()
    """The expressions because of which it cannot."""
