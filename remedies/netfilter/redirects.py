"""The redirects of ours that are in force: by which interface, to which port.

Read by name: only our own chains are decoded, with what comes before them. A chain of iptables
counts only while PREROUTING still leads to it, and a rule only while packets reach it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from remedies.errors import Unreadable
from remedies.netfilter.bypass import Places, taken_by
from remedies.netfilter.walk import own_chains, resource_of
from remedies.values import dataclass

if TYPE_CHECKING:
    from remedies.netfilter.stores import Base, RuleStore
    from remedies.rules.decoded import Step


@dataclass(frozen=True)
class Redirect:
    """UDP requests that come in by one interface to one port are sent to its own address."""

    resource: str
    """The address of the resource that the rule is part of."""
    family: str
    """``ip``, ``ip6``, or ``inet`` for both."""
    interface: str
    port: int

    @property
    def families(self) -> tuple[int, ...]:
        """Return 4, 6 or both."""
        return {"ip": (4,), "ip6": (6,)}.get(self.family, (4, 6))


def redirects(stores: Iterable[RuleStore]) -> tuple[Redirect, ...]:
    """Return ours, those that packets reach; raise Unreadable where a chain of ours cannot be."""
    places = [(store, base) for store in stores for base in store.bases()]
    return tuple(
        found
        for store, base in places
        if base.type == "nat" and base.hook == "prerouting" and base.rules
        for chain in own_chains(store, base)
        for found in _of_chain(places, store, base, chain)
    )


def _taken(places: Places, store: RuleStore, base: Base, chain: str, step: Step) -> bool:
    """Tell whether no packet reaches a rule of ours; what cannot be read surely takes none."""
    try:
        return taken_by(places, store, base, chain, step) is not None
    except Unreadable:
        return False


def _of_chain(places: Places, store: RuleStore, base: Base, chain: str) -> Iterator[Redirect]:
    resource = resource_of(base, chain)
    for raw in store.raw(base.family, base.table, chain):
        for step in store.decode(base.family, base.table, raw):
            match = step.match
            if step.action != "redirect" or "udp" not in match.protocols:
                continue
            if _taken(places, store, base, chain, step):
                continue
            for interface in match.in_interfaces:
                for first, last in match.destination_ports:
                    if first == last:
                        yield Redirect(resource, base.family, interface, first)
