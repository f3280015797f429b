"""What a plan does with what is in force: kept, restored, given back."""

from __future__ import annotations

from typing import Optional

import builder
import pytest
from fake_fixes import (
    FACTS,
    FINDING,
    FIXES,
    HELD_A,
    install,
    plan,
    policy,
    summary,
)
from fake_store import FakeStore

from remedies.model import (
    Held,
    Kept,
    Policy,
    RequiredFix,
    Rule,
    Unknown,
    Verdict,
)
from remedies.planning import plan as planning
from remedies.values import replace

fixes = pytest.fixture(autouse=True)(install)


def test_a_fix_in_force_is_not_swapped_for_one_that_was_refused_when_it_came() -> None:
    """Every second apply would change something else."""
    held = {"b": Held("b", "second", None, "1", "t1", policy=("p",))}
    covered = replace(FINDING, verdict="mitigated", mitigated_by="remedy b")
    for finding in (covered, FINDING, replace(FINDING, verdict="proven")):
        made = plan(policy(), finding, store=FakeStore(b="1"), held=held)
        assert (made.changes, made.refused) == ((), ())
    FIXES["second"].reason = "harm now"
    made = plan(policy(), covered, store=FakeStore(b="1"), held=held)
    assert [(c.action, c.resource) for c in made.changes] == [("create", "a"), ("remove", "b")]


def test_what_we_cover_is_kept() -> None:
    finding = replace(FINDING, verdict="mitigated", mitigated_by="remedy a")
    assert plan(policy(), finding, store=FakeStore(a="1"), held=HELD_A).changes == ()


def test_what_drifted_is_restored() -> None:
    made = plan(policy(), FINDING, store=FakeStore(a="2"), held=HELD_A)
    assert summary(made) == [("update", "a", "2", "1")]
    assert made.changes[0].diff.splitlines()[-2:] == ["-2", "+1"]


def test_a_gone_cause_keeps_the_fix_unless_pruned() -> None:
    store = FakeStore(a="1")
    assert plan(policy(), store=store, held=HELD_A).changes == ()
    made = plan(policy(), store=store, held=HELD_A, prune=True)
    assert summary(made) == [("remove", "a", "1", None)]


def test_what_policy_no_longer_wants_is_given_back() -> None:
    held = {"a": Held("a", "first", "0", "1", "t1", policy=("p",))}
    for mode in ("off", "advise"):
        made = plan(policy(mode), store=FakeStore(a="1"), held=held)
        assert summary(made) == [("update", "a", "1", "0")]


def test_what_another_policy_put_in_force_stays_and_is_named() -> None:
    """Yesterday 'apply --policy yesterday', today 'apply': the fix of yesterday must not go."""
    held = {"a": replace(HELD_A["a"], policy=("yesterday",))}
    for other in (policy("off"), policy("advise"), Policy(("bare",), "d", "auto", False, {})):
        made = plan(other, store=FakeStore(a="1"), held=held)
        assert made.changes == ()
        assert made.kept == (Kept("first", ("a",), ("yesterday",), "t1"),)
        pruned = plan(other, store=FakeStore(a="1"), held=held, prune=True)
        assert (summary(pruned), pruned.kept) == ([("remove", "a", "1", None)], ())


def test_what_another_policy_put_in_force_and_this_one_wants_is_not_named() -> None:
    held = {"a": replace(HELD_A["a"], policy=("yesterday",))}
    made = plan(policy(), FINDING, store=FakeStore(a="1"), held=held)
    assert (made.changes, made.kept) == ((), ())


@pytest.mark.parametrize(
    ("was", "now", "risk"),
    [
        ("proven", "mitigated", "high"),
        ("active", "mitigated", "high"),
        ("exposed", "mitigated", "moderate"),
        ("proven", "unknown", "high"),
        ("proven", None, "low"),
        ("mitigated", "mitigated", "moderate"),
    ],
)
def test_removing_what_keeps_a_fault_away_is_as_risky_as_the_fault(
    was: Verdict, now: Optional[Verdict], risk: str
) -> None:
    held = {"a": replace(HELD_A["a"], answered=(replace(FINDING, verdict=was),))}
    found = [replace(FINDING, verdict=now, mitigated_by="remedy a")] if now else []
    (change,) = plan(policy("off"), *found, store=FakeStore(a="1"), held=held).changes
    assert change.risk == risk
    assert (f"cond on subject, which was {was}" in change.impact) == (now is not None)


@pytest.mark.parametrize(("partly", "risk"), [(False, "high"), (True, "low")])
def test_what_cannot_be_judged_counts_as_a_fault_that_comes_back(partly: bool, risk: str) -> None:
    held = {"a": replace(HELD_A["a"], answered=(replace(FINDING, verdict="proven"),))}
    scan = builder.scan(unknown=(Unknown("cond", "why", partly=partly),))
    made = planning.plan(policy("off"), FACTS, scan, held, FakeStore(a="1"))
    assert [c.risk for c in made.changes] == [risk]


def test_removing_what_keeps_several_faults_away_is_as_risky_as_the_worst() -> None:
    faults = tuple(replace(FINDING, subject=v, verdict=v) for v in ("exposed", "proven", "active"))
    held = {"a": replace(HELD_A["a"], answered=faults)}
    covered = replace(FINDING, verdict="mitigated", mitigated_by="remedy a")
    (change,) = plan(policy("off"), covered, store=FakeStore(a="1"), held=held).changes
    assert change.risk == "high"
    assert "cond on proven, which was proven" in change.impact


def test_another_fix_in_its_place_is_made_before_the_old_one_goes() -> None:
    FIXES["first"].reason = "asymmetric now"
    finding = replace(FINDING, verdict="mitigated", mitigated_by="remedy a")
    made = plan(policy(), finding, store=FakeStore(a="1"), held=HELD_A)
    assert [c.action for c in made.changes] == ["create", "remove"]


def test_what_came_last_is_given_back_first() -> None:
    held = {name: Held(name, "first", None, "1", "t1", policy=("p",)) for name in ("a", "b")}
    made = plan(policy("off"), store=FakeStore(a="1", b="1"), held=held)
    assert [c.resource for c in made.changes] == ["b", "a"]


def test_a_removal_never_overwrites_a_third_party() -> None:
    made = plan(policy("off"), store=FakeStore(a="theirs"), held=HELD_A)
    assert made.changes == ()
    assert "somebody changed it since t1" in made.refused[0].reason


def test_unknown_conditions_are_no_absent_conditions() -> None:
    """A condition that could not be judged keeps its fix: it may well still be needed."""
    scan = builder.scan(unknown=(Unknown("cond", "why"),))
    made = planning.plan(policy(), FACTS, scan, HELD_A, FakeStore(a="1"), prune=True)
    assert made.changes == ()


def test_a_finding_that_could_not_be_judged_keeps_its_fix_as_well() -> None:
    unknown = replace(FINDING, verdict="unknown")
    assert plan(policy(), unknown, store=FakeStore(a="1"), held=HELD_A, prune=True).changes == ()


def test_what_was_read_in_part_was_judged_and_keeps_nothing_from_being_pruned() -> None:
    scan = builder.scan(unknown=(Unknown("cond", "why", partly=True),))
    made = planning.plan(policy(), FACTS, scan, HELD_A, FakeStore(a="1"), prune=True)
    assert summary(made) == [("remove", "a", "1", None)]


def test_a_fault_that_policy_does_not_act_on_any_more_keeps_its_fix_unless_pruned() -> None:
    weaker = policy(rules={"cond": Rule("fix", "active", ("first", "second"))})
    assert plan(weaker, FINDING, store=FakeStore(a="1"), held=HELD_A).changes == ()
    made = plan(weaker, FINDING, store=FakeStore(a="1"), held=HELD_A, prune=True)
    assert summary(made) == [("remove", "a", "1", None)]


def test_a_blind_guard_gives_nothing_back() -> None:
    FIXES["first"].blind = True
    standing = (RequiredFix("first", {}, "because"),)
    made = plan(policy("off", require=standing), store=FakeStore(a="1"), held=HELD_A)
    assert made.changes == ()
    assert made.refused[0].wanted
