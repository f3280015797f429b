"""Whether a watch may apply a fix with nobody there: a budget, and a stop. Pure.

Whatever shows that a fix was not the answer stops all of them until a person says otherwise: one
that was undone, or not, and a fault that is proven again where its fix is to keep it away.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from remedies.model import Unattended
from remedies.outcomes import Outcome
from remedies.values import NamedTuple, dataclass

HOUR = 3600.0
REMEMBERED = 24 * HOUR
"""Seconds within which a fault that is proven again has come back."""


@dataclass(frozen=True)
class UnattendedApply:
    """One fix that was applied with nobody there, or was to be."""

    at: float
    """Unix time."""
    key: str
    """Of the namespace."""
    condition: str
    outcome: Outcome
    transaction: str
    once: bool = False
    """Nothing of it is in force: the same fault, later, is another one."""


Done = tuple[UnattendedApply, ...]


class Allowed(NamedTuple):
    """Whether to go on; if not, why."""

    go: bool
    why: str = ""
    stop: bool = False
    """It stops all of them."""


def ask(terms: Unattended, done: Done, key: str, condition: str, now: float) -> Allowed:
    """Answer whether a proven fault in a namespace may be fixed now."""
    for each in remembered(done, now):
        if (each.key, each.condition, each.once) == (key, condition, False):
            return Allowed(False, f"the fault is back after transaction {each.transaction}", True)
    recent = [each for each in done if now - each.at < HOUR]
    if len(recent) >= terms.budget:
        return Allowed(False, f"the budget of {terms.budget} applies in an hour is used up")
    if sum(each.key == key for each in recent) >= terms.each:
        return Allowed(False, f"the budget of {terms.each} for one namespace in an hour is used up")
    return Allowed(True)


def stops(outcome: Optional[Outcome], reason: str) -> str:
    """Return why the end of an apply stops all others; empty: it does not."""
    if outcome in ("applied", "confirmed", None):
        return ""
    return f"an apply ended as {outcome}{': ' if reason else ''}{reason}"


def remembered(done: Iterable[UnattendedApply], now: float) -> Done:
    """Return those that still count."""
    return tuple(each for each in done if now - each.at < REMEMBERED)
