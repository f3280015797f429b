"""Rules named by nftables itself: each dropped packet's next one is marked, and its way is told.

Nothing is marked before it is asked for: the packets of the conversation that is followed, and
after a drop by the firewall what its sender sends by that protocol. So a flood of other packets
costs nothing.
"""

from __future__ import annotations

import time
from typing import Optional

from remedies.errors import Unreadable
from remedies.netfilter.nftrace import ACCEPT, DROP, TraceTable, TraceVerdict
from remedies.netfilter.ownership import POLICY, rule_met
from remedies.netfilter.stores import Base, NfTables
from remedies.netfilter.walk import reachable
from remedies.netlink.flow import Tuple
from remedies.netlink.nft import handle_of
from remedies.rules.decoded import Step
from remedies.rules.rule import Match, PacketRule
from remedies.trace.drops import without_port_of_client
from remedies.trace.event import DropEvent
from remedies.trace.looks import Looks
from remedies.trace.packet_filter import PacketFilter
from remedies.values import NamedTuple

_PATIENCE = 1.0
_MOST = 1024
_LEGACY = "nf_hook_slow"
"""The function that drops what an xtables rule, or another module at the hook, refuses."""

_Ends = tuple[str, Optional[Tuple]]
_Place = tuple[str, str, str, int]


class TracedDrop(NamedTuple):
    """What nftrace says of the packets of one drop."""

    rule: Optional[PacketRule] = None
    """The rule, or the policy, that the kernel says dropped such a packet."""
    told: str = ""
    """What is said of it beside its name; empty: such a packet was not traced."""


class TracedRules:
    """Asks nftrace, where it was begun; else it knows nothing."""

    def __init__(self) -> None:
        """Mark nothing yet."""
        self._looks = Looks()
        self.unread = self._looks.unread
        self._table: Optional[TraceTable] = None
        self._dropped: dict[_Ends, TraceVerdict] = {}
        self._passed: dict[_Ends, None] = {}
        self._rules: dict[_Place, Optional[PacketRule]] = {}

    def begin(self, wanted: Optional[PacketFilter]) -> None:
        """Make the table; ``wanted``: the conversation that is followed.

        Where the kernel does not let us, :attr:`unread` says why and nothing is traced.
        """
        try:
            self._table = TraceTable()
            if wanted is not None:
                way = Tuple(wanted.source, wanted.source_port or 0,
                            wanted.destination, wanted.destination_port or 0)  # fmt: skip
                self._table.mark(wanted.protocol, way)
                self._table.mark(wanted.protocol, way.reversed)
        except Unreadable as error:
            self.unread[str(error)] = None

    def fileno(self) -> int:
        """Return the descriptor to poll; -1: none."""
        return -1 if self._table is None else self._table.fileno()

    def hear(self) -> None:
        """Take in what the kernel has said."""
        if self._table is None:
            return
        try:
            for verdict in self._table.read():
                ends = verdict.protocol, without_port_of_client(verdict.way)
                known = self._dropped if verdict.verdict & 0xFF == DROP else self._passed
                if verdict.way is None or len(known) >= _MOST:
                    continue
                if known is self._dropped:
                    self._dropped[ends] = verdict
                elif verdict.verdict == ACCEPT:
                    self._passed[ends] = None
        except (OSError, Unreadable) as error:
            self.unread[f"nftrace: {error}"] = None

    def follow(self, protocol: str, way: Optional[Tuple]) -> None:
        """Mark what the sender of a packet sends by that protocol.

        Not by the packet's destination: NAT may have written it.
        """
        if self._table is None or way is None:
            return
        try:
            self._table.mark(protocol, Tuple(way.source, 0, "", 0))
        except Unreadable as error:
            self.unread[str(error)] = None

    def of(self, drop: DropEvent) -> TracedDrop:
        """Return what is known of a drop of this namespace."""
        if self._table is None or drop.namespace or drop.sign != "NETFILTER_DROP":
            return TracedDrop()
        ends = drop.protocol.split()[0], without_port_of_client(drop.way)
        verdict = self._dropped.get(ends)
        if verdict is not None:
            where = f"handle {verdict.handle}" if verdict.handle else "its policy"
            chain = f"{verdict.family} {verdict.table} {verdict.chain}"
            return TracedDrop(self._rule(verdict), f"nftrace saw it dropped in {chain}, {where}")
        if drop.place == _LEGACY and ends in self._passed:
            return TracedDrop(
                told="nftrace saw no rule of nftables drop it: what is left is iptables-legacy, or "
                "another part of the kernel at that hook"
            )
        return TracedDrop()

    def _rule(self, verdict: TraceVerdict) -> Optional[PacketRule]:
        place = verdict.family, verdict.table, verdict.chain, verdict.handle
        if place not in self._rules:
            self._rules[place] = self._looks.take(
                f"rule of {' '.join(place[:3])}", lambda: _rule_at(*place)
            )
        return self._rules[place]

    def close(self) -> None:
        """Remove the table; safe to repeat."""
        if self._table is not None:
            self._table.close()


def _rule_at(family: str, table: str, chain: str, handle: int) -> Optional[PacketRule]:
    """Return the rule with a handle, as its tool prints it; a chain's policy for handle 0."""
    store = NfTables(time.monotonic() + _PATIENCE)
    for base in store.bases():
        if (base.family, base.table) != (family, table):
            continue
        if not handle and base.chain == chain:
            return rule_met(store, base, (chain,), Step(Match()), "drop", POLICY)
        for at, raw in reachable(store, base, (b"",)) if handle else ():
            if at == chain and handle_of(raw) == handle:
                return _met(store, base, chain, raw, handle)
    return None


def _met(store: NfTables, base: Base, chain: str, raw: bytes, handle: int) -> PacketRule:
    path = (chain,) if chain == base.chain else (base.chain, chain)
    try:
        step = store.decode(base.family, base.table, raw)[0]
        return rule_met(store, base, path, step, "drop")
    except (Unreadable, IndexError):
        return rule_met(store, base, path, Step(Match()), "drop", f"handle {handle}")
