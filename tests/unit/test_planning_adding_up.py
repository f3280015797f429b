"""Fixes whose one resource serves several findings."""

from __future__ import annotations

from typing import Optional, Union

import pytest
from fake_fixes import (
    FACTS,
    FINDING,
    FIXES,
    HELD_A,
    FakeFix,
    install,
    plan,
    policy,
    summary,
)
from fake_store import FakeStore

from remedies import codec
from remedies.facts import Facts
from remedies.model import (
    Advice,
    Change,
    Finding,
    Held,
    RequiredFix,
    Rule,
    Terms,
    Wanted,
)
from remedies.values import replace

fixes = pytest.fixture(autouse=True)(install)


OTHER = replace(FINDING, subject="another subject")


def add_up(one: Wanted, other: Wanted) -> Wanted:
    """Return both states, letter by letter, and both effects."""
    state = "".join(sorted(set((one.state or "") + (other.state or ""))))
    effects = tuple(dict.fromkeys(one.effects + other.effects))
    return replace(one, state=state, effects=effects)


class Adding(FakeFix):
    """A fix whose one resource serves several findings: a letter for each subject."""

    def desired(
        self, finding: Optional[Finding], facts: Facts, terms: Terms
    ) -> Union[tuple[Wanted, ...], Advice]:
        letter = "" if finding is None else finding.subject[0]
        return (Wanted("a", letter, effects=(f"flow:{letter}",)),)

    merge = staticmethod(add_up)


def test_a_fix_that_adds_up_makes_one_change_that_answers_every_finding() -> None:
    FIXES["first"] = Adding("first")
    seen = (replace(FINDING, verdict="active"), replace(OTHER, verdict="active"))
    made = plan(policy(), *seen)
    assert summary(made) == [("create", "a", None, "as")]
    assert made.changes[0].effects == ("flow:s", "flow:a")
    assert made.changes[0].answers == (FINDING.id, OTHER.id)
    assert made.changes[0].reversed().answers == (FINDING.id, OTHER.id)


def test_a_fix_that_does_not_add_up_still_answers_every_finding() -> None:
    made = plan(policy(), FINDING, OTHER)
    assert summary(made) == [("create", "a", None, "1")]
    assert made.changes[0].answers == (FINDING.id, OTHER.id)


def test_what_is_in_force_is_added_unless_pruned() -> None:
    FIXES["first"] = Adding("first")
    held = {"a": Held("a", "first", None, "s", "t1")}
    store = FakeStore(a="s")
    assert summary(plan(policy(), OTHER, store=store, held=held)) == [("update", "a", "s", "as")]
    pruned = plan(policy(), OTHER, store=store, held=held, prune=True)
    assert summary(pruned) == [("update", "a", "s", "a")]


def test_what_another_fix_has_in_force_there_is_not_added() -> None:
    FIXES["first"] = Adding("first")
    held = {"a": Held("a", "second", None, "s", "t1")}
    only = policy(rules={"cond": Rule("fix", "exposed", ("first",))})
    seen = replace(OTHER, verdict="active")
    made = plan(only, seen, store=FakeStore(a="s"), held=held)
    assert summary(made) == [("update", "a", "s", "a")]


def test_a_change_may_be_nothing_but_its_effects() -> None:
    """Flows that pin the old path although the rule stands: they are all that is left to do."""
    FIXES["first"] = Adding("first")
    store = FakeStore(a="s")
    covered = replace(FINDING, verdict="mitigated", mitigated_by="remedy a")
    assert plan(policy(), covered, store=store).changes == ()
    store.write("flow:s", "present")
    assert summary(plan(policy(), covered, store=store)) == [("update", "a", "s", "s")]


def test_what_is_required_twice_adds_up_and_nothing_else_stays() -> None:
    fix = FIXES["first"]
    fix.merge = lambda one, other: replace(one, state=f"{one.state}+{other.state}")  # type: ignore[attr-defined]
    standing = (
        RequiredFix("first", {"size": 2}, "because"),
        RequiredFix("first", {"size": 3}, "too"),
    )
    made = plan(policy("off", require=standing), store=FakeStore(a="old"), held=HELD_A)
    assert [c.after for c in made.changes] == ["1+1"]
    (change,) = made.changes
    assert [(name, terms.params) for name, terms in change.uses] == [
        (None, {"size": 2}),
        (None, {"size": 3}),
    ]
    kernel = FACTS.host.kernel
    assert change.impact == f"size 2 for policy on {kernel}; size 3 for policy on {kernel}"
    back = codec.decode(Change, codec.encode(change.reversed()), "plan")
    assert back.uses == change.uses


def test_a_finding_and_what_is_required_are_each_judged_again() -> None:
    required = RequiredFix("first", {"size": 2}, "because")
    (change,) = plan(policy(require=(required, required)), FINDING).changes
    assert [name for name, _ in change.uses] == [FINDING.id, None]
