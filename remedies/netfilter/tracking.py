"""Whether rules make a namespace track connections: one that asks for a state has it done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from remedies.errors import Unreadable
from remedies.netfilter.stores import RuleStore
from remedies.netfilter.walk import TRACK_WORDS, mentions, ours


def tracks(stores: Sequence[RuleStore], unread: list[str]) -> bool:
    """Tell whether somebody else's rule makes the namespace track connections.

    Flows in the table answer it at once, unless a rule of ours may be what put them there. Why it
    could not be told goes to ``unread``.
    """
    chains = [
        (store, family, table, chain)
        for store in stores
        for family, table in store.tables()
        for chain in store.chains(family, table)
    ]
    own = any(ours(table, chain) for _, _, table, chain in chains)
    if not own and _flows():
        return True
    foreign = [entry for entry in chains if not ours(entry[2], entry[3])]
    try:
        return any(True for _ in _tracking(foreign))
    except Unreadable as error:
        unread.append(str(error))
        return False


def _tracking(chains: list[tuple[RuleStore, str, str, str]]) -> Iterator[bytes]:
    """Yield the rules that look as if they track and, decoded, do."""
    for store, family, table, chain in chains:
        for raw in store.raw(family, table, chain):
            if mentions(raw, TRACK_WORDS) and any(
                step.conntrack for step in store.decode(family, table, raw)
            ):
                yield raw


def _flows() -> bool:
    """Tell whether the table holds a flow; the file is missing where conntrack is not loaded."""
    try:
        with open("/proc/sys/net/netfilter/nf_conntrack_count", encoding="utf-8") as file:
            return int(file.read()) > 0
    except (OSError, ValueError):
        return False
