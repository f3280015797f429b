"""The table of outcomes: it is whole, who looks up in it covers it, and transactions live by it."""

from __future__ import annotations

import argparse
import contextlib
import itertools
from pathlib import Path
from typing import Any, cast, get_args

import builder
import pytest
from fake_store import YES, FakeStore

from remedies import outcomes
from remedies.cli import confirm, rollback
from remedies.cli import repair as cli_repair
from remedies.cli.outcome import code, report
from remedies.cli.plan import refused
from remedies.errors import WriteFailed
from remedies.fleet import apply as fleet_apply
from remedies.fleet import calls
from remedies.fleet.calls import Visit
from remedies.fleet.host_state import HostStanding
from remedies.fleet.remote import Answer
from remedies.fleet.request import Order
from remedies.model import Change, Refusal
from remedies.operations.apply import Ended
from remedies.operations.confirm import Confirmed
from remedies.operations.repair import Repaired
from remedies.operations.rollback import RolledBack
from remedies.outcomes import ANSWERS, ENDS, HOSTS, LIFE, VerbOutcome
from remedies.report.formats.library import html
from remedies.transaction import adopt, ledger, repair, undo
from remedies.transaction.journal import NAME, Journal, records
from remedies.transaction.ledger import Begin, Transaction
from remedies.transaction.run import CheckedChange, apply, confirm_it
from remedies.values import replace

PLAN = builder.plan()
ARGS = argparse.Namespace(
    json=False, quiet=False, window=1.0, plain=True, dry_run=False, no_color=True, typed=frozenset()
)

# The table is whole.


def test_every_word_has_its_row() -> None:
    assert set(ENDS) == set(get_args(outcomes.Recorded))
    assert set(HOSTS) == set(get_args(outcomes.HostState))
    assert {o for _, o in ANSWERS} == set(get_args(outcomes.Outcome))
    assert {verb for verb, _ in ANSWERS} == set(get_args(outcomes.Verb))
    assert {t.to for t in LIFE} == set(get_args(outcomes.State))
    assert set(outcomes.CHECKED.values()) | outcomes.OPEN | outcomes.QUIET <= set(outcomes.JUDGED)
    states = set(get_args(outcomes.State))
    assert states - {t.state for t in LIFE} <= set(ENDS)
    assert set(ENDS) < states
    assert set(get_args(outcomes.DeedOutcome)) == {*ENDS, "unfinished"}
    assert set(get_args(outcomes.History)) < set(get_args(outcomes.ChangeState))


def test_an_exit_code_says_unchanged_only_where_no_outcome_with_it_changed_something() -> None:
    changed = {row.code for row in ANSWERS.values() if row.changed and row.code}
    assert not changed & outcomes.UNCHANGED
    assert {row.code for row in ANSWERS.values()} <= set(outcomes.WORST_FIRST)


# Who looks up in it covers every row.


@pytest.mark.parametrize("row", ANSWERS.values(), ids=lambda r: f"{r.verb}-{r.outcome}")
def test_the_command_line_has_a_sentence_for_every_answer(
    row: VerbOutcome, capsys: pytest.CaptureFixture[str]
) -> None:
    if row.verb == "apply":
        ended = Ended(PLAN, row.outcome, "t1")
        report(ARGS, ended)
        assert code(ended) == (0 if row.outcome == "refused" else row.code) or row.code == 8
    elif row.verb == "confirm":
        confirm._print(ARGS, Confirmed(row.outcome, "t1"))
    elif row.verb == "adopt":
        code_given = confirm._adopted(ARGS, (), "t1" if row.outcome == "adopted" else "")
        assert code_given == row.code
    elif row.verb == "repair":
        found = cast(Any, object()) if row.outcome == "repaired" else None
        cli_repair._print(ARGS, Repaired(found, "t1" if found else ""))
    else:
        rollback._print(ARGS, RolledBack(row.outcome, ("t1",)))
    out = capsys.readouterr().out
    assert out.splitlines()[0] == row.text.format("t1")
    assert ("Next: 'remedy " in out) == bool(row.next)
    assert row.why in out


class OneAnswer:
    """A host that gives one answer."""

    def __init__(self, answer: Answer) -> None:
        """Take it."""
        self.answer = answer

    def ask(self, _words: object, _stdin: str = "") -> Answer:
        """Give it."""
        return self.answer


def _stands(verb: str, answer: Answer) -> HostStanding:
    """Return how a host stands after its answer to a verb."""
    visit = Visit("h", cast(Any, OneAnswer(answer)), Order())
    if verb == "apply":
        return fleet_apply._first(visit, answer)
    if verb == "confirm":
        return calls.confirm(visit, None, YES).standing
    return calls.roll_back(visit, [], YES).standing


@pytest.mark.parametrize(
    "row",
    [row for row in ANSWERS.values() if row.verb in ("apply", "confirm", "rollback")],
    ids=lambda r: f"{r.verb}-{r.outcome}",
)
def test_a_fleet_takes_every_answer_for_what_it_says(row: VerbOutcome) -> None:
    standing = _stands(row.verb, Answer(row.code, {"outcome": row.outcome}, ""))
    assert (standing.state, standing.changed, standing.rc) == (row.host, row.changed, row.code)


def test_nothing_to_do_is_not_said_of_what_could_not_be_judged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    vague = builder.plan(findings=(builder.finding(verdict="unknown"),))
    for plan, said in ((PLAN, "already matches"), (vague, "could be judged")):
        report(ARGS, Ended(plan, "nothing"))
        assert said in capsys.readouterr().out


@pytest.mark.parametrize(("wanted", "expected"), [(True, 8), (False, 0)])
def test_a_refusal_of_what_policy_wants_has_a_code_of_its_own(wanted: bool, expected: int) -> None:
    refusing = builder.plan(refused=(Refusal("fix", None, "it would cut", wanted),))
    assert refused(refusing) == expected
    assert code(Ended(refusing, "applied", "t1")) == expected
    assert code(Ended(refusing, "rolled-back", "t1")) == 3


@pytest.mark.parametrize("verb", ["apply", "rollback"])
@pytest.mark.parametrize("code", [1, 4, 5, 6, 64, 65, 70, 77, 78, 126, 127, 130, 137])
def test_a_host_that_gives_no_outcome_is_unchanged_only_by_a_code_that_says_so(
    verb: str, code: int
) -> None:
    standing = _stands(verb, Answer(code, {}, "why"))
    wanted = "untouched" if code in outcomes.UNCHANGED else "needs-human"
    assert standing.state == wanted


@pytest.mark.parametrize("verb", ["apply", "rollback"])
def test_an_outcome_that_nobody_knows_needs_a_human(verb: str) -> None:
    assert _stands(verb, Answer(1, {"outcome": "splendid"}, "")).state == "needs-human"


@pytest.mark.parametrize("word", [*ENDS, "splendid"])
def test_what_became_of_a_lost_host_is_told_for_every_end(word: str) -> None:
    rows = [{"transaction": "t1", "kind": "apply", "outcome": word}]
    host = OneAnswer(Answer(0, {"transactions": rows}, ""))
    standing = fleet_apply._became(Visit("h", cast(Any, host), Order()), "", "cut", "t1")
    end = ENDS.get(cast(outcomes.Recorded, word), ENDS["incomplete"])
    assert (standing.state, standing.rc) == (end.host, end.code)


def test_the_page_shows_every_judgement_and_every_host() -> None:
    assert set(html.MARKS) == set(outcomes.JUDGED)
    assert all(row.judged in html.MARKS for row in HOSTS.values())


def test_an_end_that_no_version_here_knows_is_one_to_look_at() -> None:
    assert ledger.ended("applied") == "applied"
    assert ledger.ended("splendid") == ledger.ended(None) == "incomplete"


# Transactions live by it.

CHANGES = (
    Change("f", None, "a", "update", None, "1", "", "exact", "low", ""),
    Change("f", None, "file:b", "update", None, "2", "", "exact", "low", "", boot=True),
)
BEGIN = Begin("apply", CHANGES, "0", "h", "m", "b", "root", "remedy apply")


class DeadError(BaseException):
    """Stands for the death of a process."""


class Life:
    """One transaction over a store in memory, and the states that its journal goes through."""

    def __init__(self, folder: Path) -> None:
        """Begin with nothing."""
        self.store, self.folder = FakeStore(), folder

    def apply(self, *, confirm: float = 0.0, wrong: str = "", stuck: bool = False) -> None:
        """Apply; ``stuck``: what is written cannot be put back."""

        def verify() -> CheckedChange:
            self.store.broken = {"a"} if stuck else set()
            return CheckedChange(wrong or None)

        with Journal(str(self.folder)) as journal:
            apply(self.store, journal, BEGIN, YES, verify, confirm=confirm)

    @property
    def entry(self) -> Transaction:
        """Return the transaction as the journal tells it now."""
        (entry,) = ledger.transactions(records(str(self.folder / NAME))).values()
        return entry

    def confirm(self, *, broken: bool = False, dies: bool = False) -> None:
        """Confirm; the boot file cannot be written, or who confirms dies over it."""

        def die(_address: str) -> None:
            raise DeadError

        self.store.broken = {"file:b"} if broken else set()
        self.store.before_write = die if dies else lambda _: None
        with Journal(str(self.folder)) as journal, contextlib.suppress(WriteFailed, DeadError):
            confirm_it(self.store, journal, self.entry, YES)
        self.store.before_write = lambda _: None

    def recover(self, why: str, *, stuck: bool = False) -> None:
        """Carry it to its end."""
        self.store.broken = {"a"} if stuck else set()
        with Journal(str(self.folder)) as journal:
            undo.recover(self.store, journal, self.entry, why, YES)

    def steps(self) -> set[tuple[object, str]]:
        """Return the steps that the journal tells of, record by record."""
        found = list(records(str(self.folder / NAME)))
        states: list[object] = [None]
        for number in range(1, len(found) + 1):
            (entry,) = ledger.transactions(found[:number]).values()
            if entry.state != states[-1]:
                states.append(entry.state)
        return {(one, str(other)) for one, other in itertools.pairwise(states)}


def lives(life: Life, name: str) -> None:
    """Live one of the lives there are."""
    if name in (adopt.ADOPTED, repair.UNKNOWN):
        entry = replace(adopt.adopted(BEGIN, YES), outcome=name)
        with Journal(str(life.folder)) as journal:
            adopt.record(journal, entry)
        return
    if name.startswith("written"):
        wrong = "still there" if "wrong" in name else ""
        life.apply(wrong=wrong, stuck="stuck" in name)
        return
    life.apply(confirm=60)
    if "confirmed" in name:
        life.confirm(broken="broken" in name, dies="dies" in name)
    if "recovered" in name:
        life.recover(name.split()[-1], stuck="stuck" in name)


LIVES = [
    "written", "written wrong", "written wrong stuck",
    "confirmed", "confirmed broken",
    *(f"recovered {why}" for why in outcomes.RECOVERIES if why not in ("dead", "hung", "writing")),
    "recovered stuck expired",
    *(f"confirmed dies recovered {why}" for why in ("expired", "rejected")),
    "confirmed dies recovered stuck expired",
    adopt.ADOPTED, repair.UNKNOWN,
]  # fmt: skip
DEAF = ["written", "confirmed"]
"""Lives in which the disk has taken the end and does not say so."""


def deafen(patch: pytest.MonkeyPatch) -> None:
    """Let the first ``end`` reach the disk with an error."""
    append = Journal.append

    def deaf(self: Journal, kind: str, *args: Any) -> Any:
        done = append(self, kind, *args)
        if kind == "end":
            patch.undo()
            raise OSError(5, "I/O error")
        return done

    patch.setattr(Journal, "append", deaf)


def test_transactions_take_the_steps_of_the_table_and_no_others(tmp_path: Path) -> None:
    taken: set[tuple[object, str]] = set()
    for name, deaf in [*((name, False) for name in LIVES), *((name, True) for name in DEAF)]:
        folder = tmp_path / f"{name} {deaf}"
        folder.mkdir()
        life = Life(folder)
        with pytest.MonkeyPatch.context() as patch:
            if deaf:
                deafen(patch)
            lives(life, name)
        taken |= life.steps()
    assert taken == {(step.state, step.to) for step in LIFE}


@pytest.mark.parametrize("why", outcomes.RECOVERIES)
def test_a_recovery_ends_as_the_table_says(tmp_path: Path, why: str) -> None:
    life = Life(tmp_path)
    life.apply(confirm=60)
    life.recover(why)
    row = outcomes.RECOVERIES[why]
    assert (life.entry.outcome, life.entry.reason) == (row.end, row.reason)


def test_a_rollback_ends_rolled_back_or_incomplete(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.apply()
    back = tuple(change.reversed() for change in reversed(CHANGES))
    for broken, end in (({"a"}, "incomplete"), (set[str](), "rolled-back")):
        life.store.broken = broken
        begin = replace(BEGIN, kind="rollback", changes=back, undoes=(life_id(life),))
        with Journal(str(tmp_path)) as journal:
            assert undo.roll_back(life.store, journal, begin, YES).outcome == end


def life_id(life: Life) -> str:
    """Return the id of the first transaction."""
    return next(iter(ledger.transactions(records(str(life.folder / NAME)))))
