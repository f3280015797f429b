"""How things end: the life of a transaction, the answers of verbs, hosts, judgements, exit codes.

Every word for an end stands here once, with what follows from it; the journal, the command line,
fleets and reports look it up. Each set of words is a closed type: mypy holds the code to it, the
decoder every file and every host. Pure.
"""

from __future__ import annotations

from typing import Literal, Optional, cast, get_args

from remedies.values import dataclass

Verb = Literal["apply", "confirm", "adopt", "rollback", "repair"]
"""What writes: each is a verb of its name, but ``adopt`` is ``confirm --unowned`` and ``repair`` is
``audit repair``."""
Kind = Literal["apply", "rollback"]
"""What a transaction does."""
Recorded = Literal[
    "applied", "confirmed", "rolled-back", "reverted", "incomplete", "adopted", "unknown"
]  # fmt: skip
"""How the journal says that a transaction ended."""
Written = Literal["applied", "confirmed", "rolled-back", "reverted", "incomplete"]
"""Of these, how whoever writes or undoes can end one."""
State = Literal[
    "writing", "pending", "confirming",
    "applied", "confirmed", "rolled-back", "reverted", "incomplete", "adopted", "unknown",
]  # fmt: skip
"""Where a transaction is in its life (:data:`LIFE`)."""
Outcome = Literal[
    "applied", "confirmed", "rolled-back", "reverted", "incomplete", "nothing", "refused", "stale",
    "adopted", "repaired",
]  # fmt: skip
"""What a verb that writes answers (``outcome`` in its JSON)."""
HostState = Literal["untouched", "applied", "confirmed", "reverted", "unreachable", "needs-human"]
"""How a host of a fleet stands (:data:`HOSTS`)."""
Judged = Literal[
    "fail", "needs-human", "unknown", "waived", "fixed", "pass", "not-applicable"
]  # fmt: skip
"""The outcome of a report's judgement, worst first (:data:`JUDGED`): is it well now?"""
History = Literal[
    "", "in-force", "gone", "drifted", "rolled-back", "reverted", "removed", "unknown"
]  # fmt: skip
"""What became of the transaction that answered a fault last: there was none; it is in force; what
it wrote is gone, or was changed by somebody; it was rolled back; it was undone because nobody
confirmed it; a later plan removed it; what it wrote could not be read."""
ChangeState = Literal[
    "planned", "not written", "undone", "written",
    "", "in-force", "gone", "drifted", "rolled-back", "reverted", "removed", "unknown",
]  # fmt: skip
"""How one change of a report stands: not yet there, as its own transaction left it (``undone``; a
rollback's is ``written``), or what became of it since (:data:`History`)."""
DeedOutcome = Literal[
    "applied", "confirmed", "rolled-back", "reverted", "incomplete", "adopted", "unknown",
    "unfinished",
]  # fmt: skip
"""The outcome of a transaction as it is shown: :data:`Recorded`, or it has none."""


# The life of a transaction


@dataclass(frozen=True)
class Transition:
    """One step in the life of a transaction; each is a record of the journal."""

    state: Optional[State]
    """None: before its ``begin``."""
    when: str
    to: State


LIFE = (
    Transition(None, "every before-value is on disk", "writing"),
    Transition("writing", "all is read back and verified", "applied"),
    Transition("writing", "verified, and somebody must confirm it", "pending"),
    Transition("writing", "a write or the verification fails, or the writer dies", "rolled-back"),
    Transition("writing", "and something cannot be put back", "incomplete"),
    Transition("pending", "remedy confirm", "confirming"),
    Transition(
        "pending", "its time is up, its guard died, or the machine was restarted", "reverted"
    ),
    Transition("pending", "remedy rollback, or the answer n", "rolled-back"),
    Transition("pending", "and something cannot be put back", "incomplete"),
    Transition("confirming", "its boot files are written", "confirmed"),
    Transition("confirming", "a boot file cannot be written", "pending"),
    Transition("confirming", "who confirms dies, and its time is up", "reverted"),
    Transition("confirming", "who confirms dies, then remedy rollback", "rolled-back"),
    Transition("confirming", "and something cannot be put back", "incomplete"),
    Transition(None, "remedy confirm --unowned: it was in no journal", "adopted"),
    Transition(None, "its end was lost, and remedy audit repair kept the rest", "unknown"),
    Transition("applied", "this end may not be on the disk", "rolled-back"),
    Transition("confirmed", "this end may not be on the disk", "pending"),
)
"""Every step that a transaction takes. A rollback is a transaction, too: from ``writing`` it goes
to ``rolled-back`` or ``incomplete``."""


@dataclass(frozen=True)
class RecordedEnd:
    """A state from which a transaction takes no further step."""

    word: Recorded
    kept: bool
    """What it wrote was left in force."""
    undone: bool
    """What was there before is back."""
    host: HostState
    """How a host stands that was lost while it applied, and whose journal says this."""
    code: int
    """The exit code for that host."""


ENDS = {
    end.word: end
    for end in (
        # A host in a fleet is asked to wait: ``applied`` means that it did not.
        RecordedEnd("applied", kept=True, undone=False, host="needs-human", code=4),
        RecordedEnd("confirmed", kept=True, undone=False, host="confirmed", code=0),
        RecordedEnd("rolled-back", kept=False, undone=True, host="reverted", code=7),
        RecordedEnd("reverted", kept=False, undone=True, host="reverted", code=7),
        RecordedEnd("incomplete", kept=False, undone=False, host="needs-human", code=4),
        RecordedEnd("adopted", kept=True, undone=False, host="needs-human", code=4),
        RecordedEnd("unknown", kept=False, undone=False, host="needs-human", code=4),
    )
}
KEPT = frozenset(end.word for end in ENDS.values() if end.kept)
UNDONE = frozenset(end.word for end in ENDS.values() if end.undone)


@dataclass(frozen=True)
class Recovery:
    """Why a transaction without an end is carried to one by somebody other than its writer."""

    end: Written
    """How an apply ends then, once all is put back."""
    reason: str


RECOVERIES = {
    "rebooted": Recovery("reverted", "the machine was restarted before it was confirmed"),
    "expired": Recovery("reverted", "not confirmed in time"),
    "unguarded": Recovery("reverted", "its guard died before it was confirmed"),
    "rejected": Recovery("rolled-back", "rejected before it was confirmed"),
    "hung": Recovery("rolled-back", "its writer hung and was killed"),
    "dead": Recovery("rolled-back", "its writer died"),
    # Its guard lives, and who asks holds the lock: the writer does not.
    "writing": Recovery("rolled-back", "its writer died"),
}


# What verbs answer


@dataclass(frozen=True)
class VerbOutcome:
    """One outcome of one verb, and what follows from it."""

    verb: Verb
    outcome: Outcome
    code: int
    """The exit code. An ``apply`` that also refused what policy wants exits 8 instead of 0."""
    host: HostState
    """How a host of a fleet stands that gave this answer; fleets neither adopt nor repair."""
    changed: bool
    """The host is not as it was before the verb."""
    text: str
    """``{}``: the transactions; of ``repair``, the journal's new file."""
    next: str = ""
    """The verb to run next; empty for none."""
    why: str = ""
    """What that does."""


ANSWERS = {
    (row.verb, row.outcome): row
    for row in (
        VerbOutcome("apply", "applied", 0, "applied", True,
                    "Applied as transaction {}.", "status", "shows what is in force"),
        VerbOutcome("apply", "nothing", 0, "untouched", False,
                    "Nothing to do: the host already matches the policy.",
                    "status", "shows what is in force"),
        VerbOutcome("apply", "refused", 8, "untouched", False,
                    "Nothing was changed: what the policy asks for was refused.",
                    "apply", "tries again after you have fixed what the refusals name"),
        VerbOutcome("apply", "stale", 5, "untouched", False,
                    "Nothing was changed: the plan is stale.", "plan", "makes a new one"),
        VerbOutcome("apply", "rolled-back", 3, "reverted", False,
                    "Failed and rolled back: the host is as before.",
                    "show", "shows what was tried"),
        VerbOutcome("apply", "reverted", 7, "reverted", False,
                    "Not confirmed, and reverted: the host is as before."),
        VerbOutcome("apply", "incomplete", 4, "needs-human", True,
                    "Failed, and the rollback is incomplete.",
                    "show", "shows what was tried; fix what is stuck"),
        VerbOutcome("confirm", "confirmed", 0, "confirmed", True,
                    "Confirmed: transaction {} stays.", "status", "shows what is in force"),
        VerbOutcome("confirm", "reverted", 7, "reverted", False,
                    "Too late: transaction {} was undone; the host is as before.",
                    "status", "shows what is in force"),
        VerbOutcome("confirm", "nothing", 0, "untouched", False,
                    "No transaction is waiting for confirmation."),
        VerbOutcome("adopt", "adopted", 0, "untouched", False,
                    "Adopted as transaction {}: nothing was changed on the host.",
                    "rollback", "removes what was adopted"),
        VerbOutcome("adopt", "nothing", 0, "untouched", False,
                    "Nothing to adopt: every table, chain and file with a remedy name is in this "
                    "journal."),
        VerbOutcome("repair", "repaired", 0, "untouched", False,
                    "Repaired: {} goes on; the damaged files were not changed.",
                    "status", "shows what is in force"),
        VerbOutcome("repair", "nothing", 0, "untouched", False,
                    "Nothing to repair: every record can be read."),
        VerbOutcome("rollback", "rolled-back", 0, "reverted", True,
                    "Rolled back {}.", "scan", "shows what that brings back"),
        VerbOutcome("rollback", "nothing", 0, "untouched", False, "Nothing is in force."),
        VerbOutcome("rollback", "refused", 1, "needs-human", False,
                    "Nothing was rolled back: somebody has changed it since."),
        VerbOutcome("rollback", "incomplete", 4, "needs-human", True,
                    "The rollback is incomplete."),
    )
}  # fmt: skip


def answered(verb: Verb, outcome: object) -> Optional[VerbOutcome]:
    """Return the row of a verb's outcome, as a host or a file says it; None where there is none."""
    return ANSWERS.get((verb, cast(Outcome, outcome)))


# Hosts of a fleet


@dataclass(frozen=True)
class HostOutcome:
    """What a host's state means for the rollout that it is part of."""

    well: bool
    """Nothing went wrong there."""
    in_force: bool
    """What the run wrote is in force there, as far as is known."""
    failed: bool
    """It was changed and did not come through: this counts against the batch."""
    judged: Judged
    """The judgement that it looks like in a report."""


HOSTS: dict[HostState, HostOutcome] = {
    "untouched": HostOutcome(True, in_force=False, failed=False, judged="not-applicable"),
    "applied": HostOutcome(False, in_force=True, failed=True, judged="needs-human"),
    "confirmed": HostOutcome(True, in_force=True, failed=False, judged="fixed"),
    "reverted": HostOutcome(False, in_force=False, failed=True, judged="needs-human"),
    "unreachable": HostOutcome(False, in_force=False, failed=False, judged="unknown"),
    "needs-human": HostOutcome(False, in_force=False, failed=True, judged="needs-human"),
}
"""``untouched``: as it was, whether nothing was to do, it was refused, or its turn never came.
``applied``: told to apply, and its own timer runs until it is confirmed. ``reverted``: as before.
"""


# Judgements of a report

JUDGED: tuple[Judged, ...] = get_args(Judged)
"""Every outcome of a judgement, what wants attention first."""
OPEN: frozenset[Judged] = frozenset(("fail", "needs-human"))
"""The fault stands and nobody has accepted it."""
QUIET: frozenset[Judged] = frozenset(("pass", "not-applicable"))
"""Nothing was there to be told."""
CHECKED: dict[str, Judged] = {"absent": "fixed", "mitigated": "fixed", "still": "fail"}
"""What a transaction in force has come to, by what the detectors said right after it; by another
word: ``unknown``."""


# Exit codes

WORST_FIRST = (4, 70, 3, 7, 1, 9, 77, 78, 65, 6, 5, 8, 2, 0)
"""Of many hosts the worst exit code counts; one that is not here counts as 1. README.md tells what
they mean."""
UNREACHED = 9
"""The exit code for a host that was not reached."""
UNCHANGED = frozenset((1, 5, 6, 64, 65, 77, 78, 126, 127))
"""Exit codes by which a verb that gave no outcome says that nothing was changed; 126 and 127 come
from a host that has no Python."""
