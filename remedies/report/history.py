"""What became of each fault that the journal knows: which transaction answered it last. Pure.

The one place where *in force*, *rolled back* and *reverted* are decided, for every format: from the
ledger, which knows what was never taken back, and from the state in which ``status`` found each
resource, because what a journal calls in force may have gone with a reboot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, Optional

from remedies import catalogue
from remedies.model import Change
from remedies.outcomes import History
from remedies.rules import kinds
from remedies.transaction.ledger import Transaction, to_roll_back
from remedies.values import dataclass, field

IN_FORCE: Literal["in-force"] = "in-force"
_WORDS: dict[str, History] = {"ours": IN_FORCE, "gone": "gone", "drifted": "drifted"}
"""What a state of ``status`` makes of a change that was never taken back."""


@dataclass(frozen=True)
class HistoryAnswer:
    """The last transaction that answered a fault."""

    transaction: Transaction
    history: History


@dataclass
class Past:
    """Answers, the newest first in line."""

    by_finding: dict[str, HistoryAnswer] = field(default_factory=dict)
    by_condition: dict[str, HistoryAnswer] = field(default_factory=dict)
    """By condition, of those that were once found here; one in force before any that is not."""
    standing: dict[str, HistoryAnswer] = field(default_factory=dict)
    """By condition, of changes that no finding asked for: a policy's ``require``."""
    in_force: frozenset[str] = frozenset()
    """The conditions that a change answers which was found in force."""


class Standings:
    """How every change of a ledger stands now."""

    def __init__(self, ledger: Mapping[str, Transaction], states: Mapping[str, str]) -> None:
        """Take the ledger, and each resource's state as ``status`` found it; no state: unknown."""
        self._states = states
        self._left = {
            (txn, change.resource)
            for txn, changes in to_roll_back(dict(ledger)).items()
            for change in changes
        }
        self._taken_back: dict[str, History] = {}
        for entry in ledger.values():
            if entry.begin.kind == "rollback" and entry.outcome != "incomplete":
                self._taken_back.update(dict.fromkeys(entry.begin.undoes, "rolled-back"))

    def of(self, entry: Transaction, change: Change) -> History:
        """Return how one change stands."""
        if (entry.id, change.resource) in self._left:
            return _WORDS.get(self._states.get(change.resource, ""), "unknown")
        if entry.outcome == "rolled-back" or entry.outcome == "reverted":
            return entry.outcome
        if not kinds.comes_back(change.resource):
            return ""  # done, and nothing of it is in force
        return self._taken_back.get(entry.id, "removed")

    def of_all(self, entry: Transaction, changes: Iterable[Change]) -> History:
        """Return how several changes of one transaction stand together: in force only if all do."""
        words = list(dict.fromkeys(self.of(entry, change) for change in changes))
        return next((word for word in words if word != IN_FORCE), IN_FORCE) if words else ""


def past(ledger: Mapping[str, Transaction], standings: Standings) -> Past:
    """Return what the transactions of a ledger, oldest first, say of findings."""
    found = Past()
    in_force: set[str] = set()
    for entry in ledger.values():
        if entry.begin.kind != "apply":
            continue
        for finding in entry.begin.findings:
            answer = _answer(entry, finding.id, standings)
            if answer is not None:
                found.by_finding[finding.id] = answer
                known = found.by_condition.get(finding.condition)
                if known is None or known.history != IN_FORCE or answer.history == IN_FORCE:
                    found.by_condition[finding.condition] = answer
        for change in entry.begin.changes:
            if standings.of(entry, change) == IN_FORCE:
                answers = _answers(change.fix)
                in_force.update(answers)
                if change.finding is None:
                    required = HistoryAnswer(entry, IN_FORCE)
                    found.standing.update(dict.fromkeys(answers, required))
    found.in_force = frozenset(in_force)
    return found


def _answers(fix: str) -> tuple[str, ...]:
    """Return the conditions that a fix answers; none for one that this version does not know."""
    return catalogue.fix(fix).ANSWERS if catalogue.is_fix(fix) else ()


def _answer(entry: Transaction, finding: str, standings: Standings) -> Optional[HistoryAnswer]:
    changes = [change for change in entry.begin.changes if finding in change.answers]
    return HistoryAnswer(entry, standings.of_all(entry, changes)) if changes else None
