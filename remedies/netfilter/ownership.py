"""Whose a rule is that a walk through a store met: its chains, its comment, and what stands by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from remedies.netfilter.stores import Base, RuleStore
from remedies.rules.decoded import Step
from remedies.rules.owners import owner_of


def owner(store: RuleStore, base: Base, path: Sequence[str], step: Step) -> str:
    """Return the program that wrote the rule at the end of ``path``, empty where unknown.

    Raises Unreadable.
    """
    told = owner_of(base.table, path, step.comment)
    if told or base.backend == "nft":
        return told
    chains = store.chains(base.family, base.table)
    return owner_of(base.table, path, step.comment, _before(store, base, path, step), chains)


def _before(store: RuleStore, base: Base, path: Sequence[str], step: Step) -> Iterator[str]:
    """Yield where the rules before one of a base chain lead."""
    if len(path) == 1:
        for raw in store.raw(base.family, base.table, base.chain):
            if raw == step.raw:
                return
            yield from store.targets(base.family, base.table, raw)
