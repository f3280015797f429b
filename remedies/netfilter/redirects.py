"""The redirects of ours that are in force: by which interface, to which port.

Read by name: only our own chains are decoded, and a chain of iptables counts only while
PREROUTING still leads to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from remedies.values import dataclass

if TYPE_CHECKING:
    from remedies.netfilter.stores import Base, Store


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


def redirects(stores: Iterable[Store]) -> tuple[Redirect, ...]:
    """Return ours, those that packets reach; raise Unreadable where a chain of ours cannot be."""
    return tuple(
        found
        for store in stores
        for base in store.bases()
        if base.type == "nat" and base.hook == "prerouting" and base.rules
        for chain in own_chains(store, base)
        for found in _of_chain(store, base, chain)
    )


def own_chains(store: Store, base: Base) -> Iterator[str]:
    """Yield the chains of ours behind a base chain: itself, or what it jumps to.

    Raises Unreadable.
    """
    from remedies.netfilter import walk

    if walk.ours(base.table, base.chain):
        yield base.chain
        return
    if not any(walk.ours(base.table, name) for name in store.chains(base.family, base.table)):
        return
    seen: set[str] = set()
    for raw in store.raw(base.family, base.table, base.chain):
        for target in store.targets(base.family, base.table, raw):
            if walk.ours(base.table, target) and target not in seen:
                seen.add(target)
                yield target


def resource_of(base: Base, chain: str) -> str:
    """Return the address of the resource that a chain of ours belongs to."""
    if base.backend == "nft":
        return f"nft:{base.family}/{base.table}"
    return f"{'iptables' if base.family == 'ip' else 'ip6tables'}:{base.table}/{chain}"


def _of_chain(store: Store, base: Base, chain: str) -> Iterator[Redirect]:
    resource = resource_of(base, chain)
    for raw in store.raw(base.family, base.table, chain):
        for step in store.decode(base.family, base.table, raw):
            match = step.match
            if step.action != "redirect" or "udp" not in match.protocols:
                continue
            for interface in match.in_interfaces:
                for first, last in match.destination_ports:
                    if first == last:
                        yield Redirect(resource, base.family, interface, first)
