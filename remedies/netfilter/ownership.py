"""A rule that a walk through a store met, as a value, and whose it is.

Its chains, its comment and what stands by tell that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from remedies.netfilter.stores import Base, RuleStore
from remedies.rules.decoded import Step
from remedies.rules.owners import owner_of, written_between
from remedies.rules.rule import PacketRule
from remedies.values import replace

POLICY = "policy drop"
"""The text of a base chain's policy, which is no rule."""


def rule_met(
    store: RuleStore,
    base: Base,
    path: Sequence[str],
    step: Step,
    action: str,
    text: Optional[str] = None,
) -> PacketRule:
    """Return the rule at the end of ``path``; ``text`` stands for what is no rule.

    Raises Unreadable.
    """
    return replace(
        rule_at(base, path, step, action),
        text=store.text(base.family, base.table, path[-1], step) if text is None else text,
        owner=owner(store, base, path, step),
    )


def rule_at(base: Base, path: Sequence[str], step: Step, action: str) -> PacketRule:
    """Return the rule at the end of ``path`` without its text and owner, which are dear to tell."""
    return PacketRule(
        backend=base.backend,
        family=base.family,
        table=base.table,
        chain=path[-1],
        hook=base.hook,
        action=action,
        text="",
        match=step.match,
    )


def owner(store: RuleStore, base: Base, path: Sequence[str], step: Step) -> str:
    """Return the program that wrote the rule at the end of ``path``, empty where unknown.

    Raises Unreadable.
    """
    told = owner_of(base.table, path, step.comment)
    if told or base.backend == "nft":
        return told
    chains = store.chains(base.family, base.table)
    asked = len(path) == 1 and written_between(chains)
    before, after = _beside(store, base, step) if asked else ((), ())
    return owner_of(base.table, path, step.comment, before, chains, after)


def _beside(store: RuleStore, base: Base, step: Step) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return where the rules before one of a base chain lead, and where the next one does."""
    before: list[str] = []
    rules = store.raw(base.family, base.table, base.chain)
    for raw in rules:
        if raw == step.raw:
            break
        before += store.targets(base.family, base.table, raw)
    following = next(rules, None)
    after = () if following is None else store.targets(base.family, base.table, following)
    return tuple(before), after
