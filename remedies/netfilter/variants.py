"""Which variants of iptables hold rules, where both do, and rules of nft among iptables-nft's."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable

from remedies.errors import Unreadable
from remedies.netfilter.stores import Base, RuleStore
from remedies.netlink import nft
from remedies.rules.unlisted import UnlistedRules

BOTH = ("iptables-nft", "iptables-legacy")

_FOREIGN = (
    "connlimit", "ct", "dup", "dynset", "exthdr", "fib", "hash", "log", "masq", "nat", "notrack",
    "numgen", "objref", "queue", "quota", "redir", "reject", "rt", "socket", "synproxy", "tproxy",
)  # fmt: skip
"""Expressions that iptables-nft does not list: what supported_exprs[] in iptables/nft.c has not."""
_NAMES = tuple(struct.pack("=HH", 5 + len(name), 1) + name.encode() + b"\0" for name in _FOREIGN)
"""Their NFTA_EXPR_NAME; a table or chain of that name begins alike."""
_LOG_GROUP = 1  # NFTA_LOG_GROUP: what -j NFLOG is written as


def variant(backends: Collection[str]) -> str:
    """Return the variant whose rules are among backends: ``nft``, ``legacy``, both or ``none``."""
    there = [name.partition("-")[2] for name in BOTH if name in backends]
    return "both" if len(there) > 1 else (*there, "none")[0]


def mixed(bases: Iterable[Base]) -> tuple[str, ...]:
    """Return the chains of both variants that forwarded packets pass; none where one has none."""
    places = [
        base.place
        for base in bases
        if base.backend in BOTH and (base.type == "nat" or base.hook == "forward")
    ]
    held = {place.partition(" ")[0] for place in places}
    return tuple(sorted(places)) if len(held) > 1 else ()


def unlisted(
    bases: Iterable[tuple[RuleStore, Base]], unread: list[str]
) -> tuple[UnlistedRules, ...]:
    """Return what iptables-nft did not write in its base chains; adds to ``unread`` why not."""
    found = []
    for store, base in bases:
        if base.backend == "iptables-nft" and base.rules:
            try:
                foreign = _foreign(store, base)
            except Unreadable as error:
                unread.append(f"{base.place}: {error}")
                continue
            if foreign:
                words = tuple(dict.fromkeys(foreign.values()))
                place = base.family, base.table, base.chain
                found.append(UnlistedRules(*place, tuple(foreign), words))
    return tuple(found)


def _foreign(store: RuleStore, base: Base) -> dict[int, str]:
    """Return handle and expression of each such rule of a chain. Raises Unreadable."""
    return {
        nft.handle_of(raw): name
        for raw in store.raw(base.family, base.table, base.chain)
        if any(name in raw for name in _NAMES)
        for name, got in nft.expressions(raw)
        if name in _FOREIGN and not (name == "log" and _LOG_GROUP in got)
    }
