"""What the journal knows of each finding: which transaction answered it last, and what undid it.

One pass over the transactions, so that a journal of years costs no more than reading it.
"""

from __future__ import annotations

from collections.abc import Iterable

from remedies import catalogue
from remedies.transaction.ledger import Transaction
from remedies.values import dataclass, field


@dataclass
class Past:
    """Transactions by what they answered; the newest wins."""

    by_finding: dict[str, Transaction] = field(default_factory=dict)
    by_condition: dict[str, Transaction] = field(default_factory=dict)
    standing: dict[str, Transaction] = field(default_factory=dict)
    """By condition, of changes that no finding asked for: a policy's ``require``."""
    undone: dict[str, str] = field(default_factory=dict)
    """Transactions that no longer stand: ``rolled-back`` or ``reverted``."""


def past(transactions: Iterable[Transaction]) -> Past:
    """Return what transactions, oldest first, say of findings."""
    found = Past()
    answers = {name: catalogue.fix(name).ANSWERS for name in catalogue.fix_ids()}
    for entry in transactions:
        begin = entry.begin
        if entry.outcome in ("rolled-back", "reverted"):
            found.undone[entry.id] = entry.outcome
        elif begin.kind == "rollback":
            found.undone[entry.id] = "rolled-back"
        if begin.kind == "rollback" and entry.outcome != "incomplete":
            for undone in begin.undoes:
                found.undone.setdefault(undone, "rolled-back")
        for change in begin.changes:
            if change.finding is not None:
                found.by_finding[change.finding] = entry
            for condition in answers.get(change.fix, ()):
                found.by_condition[condition] = entry
                if change.finding is None:
                    found.standing[condition] = entry
    return found
