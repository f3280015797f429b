"""From findings to a plan: which fix is used, and what is refused."""

from __future__ import annotations

import difflib

import pytest
from builder import HOST
from fake_fixes import (
    FACTS,
    FINDING,
    FIXES,
    install,
    plan,
    policy,
    summary,
)
from fake_store import FakeStore

from remedies.model import (
    Advice,
    Finding,
    RequiredFix,
    Rule,
    Verdict,
    Wanted,
)
from remedies.planning import plan as planning
from remedies.planning import reads
from remedies.values import replace

fixes = pytest.fixture(autouse=True)(install)


def test_the_first_fix_that_is_not_refused_is_used() -> None:
    made = plan(policy(), FINDING)
    assert summary(made) == [("create", "a", None, "1")]
    assert made.changes[0].finding == FINDING.id
    assert made.changes[0].terms.params == {"size": 1}


def test_a_refusal_falls_to_the_next_and_is_told() -> None:
    FIXES["first"].reason = "asymmetric"
    made = plan(policy(), FINDING)
    assert summary(made) == [("create", "b", None, "1")]
    assert [(r.fix, r.reason, r.wanted) for r in made.refused] == [("first", "asymmetric", False)]


def test_a_guard_that_cannot_see_refuses() -> None:
    FIXES["first"].blind = True
    FIXES["second"].reason = "no"
    made = plan(policy(), FINDING)
    assert made.changes == ()
    assert [(r.reason, r.wanted) for r in made.refused] == [
        ("cannot decide whether it is safe: rules cannot be read", True),
        ("no", True),
    ]


def test_all_asks_for_every_fix() -> None:
    FIXES["second"].reason = "no"
    made = plan(policy(every=True), FINDING)
    assert summary(made) == [("create", "a", None, "1")]
    assert [r.wanted for r in made.refused] == [True]


@pytest.mark.parametrize("verdict", ["exposed", "active", "proven"])
def test_from_is_the_weakest_verdict_acted_on(verdict: Verdict) -> None:
    rules = {"cond": Rule("fix", "active", ("first",))}
    made = plan(policy(rules=rules), replace(FINDING, verdict=verdict))
    assert bool(made.changes) == (verdict != "exposed")


@pytest.mark.parametrize(
    "finding",
    [
        replace(FINDING, verdict="unknown"),
        replace(FINDING, waived="reason"),
        replace(FINDING, verdict="mitigated", mitigated_by="kube-proxy's rule"),
    ],
)
def test_nothing_is_done_about(finding: Finding) -> None:
    assert plan(policy(), finding).changes == ()


def test_a_required_fix_needs_no_finding_and_a_refusal_is_wanted() -> None:
    standing = (RequiredFix("first", {"size": 2}, "because"),)
    made = plan(policy("off", require=standing))
    assert summary(made) == [("create", "a", None, "1")]
    assert (made.changes[0].finding, made.changes[0].terms.params) == (None, {"size": 2})
    FIXES["first"].reason = "NAT"
    made = plan(policy("off", require=standing))
    assert [(r.finding, r.wanted) for r in made.refused] == [(None, True)]


def test_advise_turns_a_fix_into_words() -> None:
    made = plan(policy("advise"), FINDING)
    assert made.changes == ()
    assert [(a.template, a.values["resources"]) for a in made.advice] == [("fix", ["a"])]


def test_a_fix_that_is_advice_counts_as_used() -> None:
    FIXES["first"].wanted = Advice("first", FINDING.id, "title", "bind", {})
    made = plan(policy(), FINDING)
    assert [a.title for a in made.advice] == ["title"]
    assert made.changes == ()


def test_boot_files_come_last() -> None:
    FIXES["first"].wanted = (Wanted("file", "x", boot=True), Wanted("a", "1"))
    assert [c.resource for c in plan(policy(), FINDING).changes] == ["a", "file"]


def test_nothing_is_persisted_outside_the_machines_own_namespace() -> None:
    inner = replace(FACTS, host=replace(HOST, netns="b-1"))
    assert planning.terms_for(policy(persist=True), FACTS, {}, "first").persist
    assert not planning.terms_for(policy(persist=True), inner, {}, "first").persist


def test_the_plan_id_follows_what_is_done() -> None:
    one, other = plan(policy(), FINDING), plan(policy(), FINDING, store=FakeStore(a="0"))
    assert one.id == plan(policy(), FINDING).id
    assert one.id != other.id


@pytest.mark.parametrize(("before", "after"), [(None, "x"), (None, "x\ny\n"), ("", "x\n\ny")])
def test_a_diff_of_something_new_is_what_difflib_makes(before: str | None, after: str) -> None:
    whole = difflib.unified_diff([], after.splitlines(), "a (now)", "a (wanted)", lineterm="")
    made = reads.diff(FakeStore(), "a", before, after)
    assert made == "\n".join(whole)
