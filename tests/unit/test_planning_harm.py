"""Which fixes a plan refuses because they can end connections that work."""

from __future__ import annotations

import pytest
from fake_fixes import (
    FINDING,
    FIXES,
    install,
    plan,
    policy,
    summary,
)
from fake_store import FakeStore

from remedies.model import (
    Held,
    Policy,
    RequiredFix,
    Rule,
    Verdict,
    Wanted,
)
from remedies.values import replace

fixes = pytest.fixture(autouse=True)(install)


def test_what_could_harm_comes_last_for_what_is_only_exposed() -> None:
    FIXES["first"].HARMLESS = False
    assert summary(plan(policy(), FINDING)) == [("create", "b", None, "1")]
    assert summary(plan(policy(), replace(FINDING, verdict="proven")))[0][1] == "a"


def _harmful(
    *, accepted: bool = False, only: bool = True, require: tuple[RequiredFix, ...] = ()
) -> Policy:
    """Return a policy whose ``first`` can end connections."""
    FIXES["first"].HARMLESS = False
    fixes = ("first",) if only else ("first", "second")
    rule = Rule("fix", "exposed", fixes, accept_harm=("first",) if accepted else ())
    return policy(rules={"cond": rule}, require=require)


def test_what_could_harm_is_refused_for_a_fault_that_was_not_seen() -> None:
    made = plan(_harmful(), FINDING)
    assert made.changes == ()
    (refusal,) = made.refused
    assert (refusal.fix, refusal.finding, refusal.wanted) == ("first", FINDING.id, True)
    assert refusal.reason == (
        "the fault was not seen, and first can end connections that work ('remedy explain first' "
        "lists them): use second, or accept that with 'accept_harm: [first]' in the policy's rule "
        "for cond"
    )


@pytest.mark.parametrize("verdict", ["active", "proven"])
def test_a_fault_that_was_seen_may_be_fixed_with_what_could_harm(verdict: Verdict) -> None:
    assert summary(plan(_harmful(), replace(FINDING, verdict=verdict)))[0][1] == "a"


def test_a_policy_accepts_what_could_harm() -> None:
    (made,) = plan(_harmful(accepted=True), FINDING).changes
    assert (made.resource, made.accept_harm) == ("a", ("cond",))
    assert plan(_harmful(), replace(FINDING, verdict="proven")).changes[0].accept_harm == ()
    required = _harmful(require=(RequiredFix("first", {}, "reason"),))
    assert summary(plan(required, FINDING)) == [("create", "a", None, "1")]
    assert plan(required, FINDING).refused == ()


def test_the_harmless_fix_is_refused_too_and_what_could_harm_does_not_stand_in() -> None:
    harmful = _harmful(only=False)
    FIXES["second"].reason = "absent"
    made = plan(harmful, FINDING)
    assert made.changes == ()
    assert [(r.fix, r.wanted) for r in made.refused] == [("second", True), ("first", True)]
    assert "use second" not in made.refused[1].reason


def test_what_could_harm_stays_in_force_for_its_finding() -> None:
    """Somebody removed it, or it was applied when the fault was seen: it is put back or kept."""
    proven = replace(FINDING, verdict="proven")
    other = replace(FINDING, subject="another", verdict="exposed")
    held = {"a": Held("a", "first", None, "1", "t1", policy=("p",), answered=(proven,))}
    assert summary(plan(_harmful(), FINDING, held=held)) == [("create", "a", None, "1")]
    store = FakeStore(a="1")
    assert plan(_harmful(), FINDING, store=store, held=held).changes == ()
    made = plan(_harmful(), other, store=store, held=held)
    assert (made.changes, [r.fix for r in made.refused]) == ((), ["first"])


def test_flows_are_not_deleted_for_a_fault_that_was_not_seen() -> None:
    FIXES["first"].wanted = (Wanted("a", "1", effects=("flow:udp/eth0/53",)),)
    made = plan(policy(), FINDING)
    assert summary(made) == [("create", "b", None, "1")]
    assert [r.reason for r in made.refused] == [
        "the fault was not seen, and it deletes flows: flow:udp/eth0/53"
    ]
    assert summary(plan(_harmful(accepted=True), FINDING))[0][1] == "a"
    FIXES["first"].HARMLESS = True
    assert summary(plan(policy(), replace(FINDING, verdict="proven")))[0][1] == "a"
    required = policy("off", require=(RequiredFix("first", {}, "reason"),))
    assert summary(plan(required)) == [("create", "a", None, "1")], "who requires it accepts it"


def test_a_change_says_only_for_what_it_answers_that_harm_is_accepted() -> None:
    FIXES["first"].wanted = (Wanted("a", "1", effects=("flow:udp/eth0/53",)),)
    rules = {
        "cond": Rule("fix", "exposed", ("first",), accept_harm=("first",)),
        "other": Rule("fix", "exposed", ("second",), accept_harm=("first", "second")),
    }
    made = plan(policy(rules=rules), FINDING, replace(FINDING, condition="other"))
    assert {c.resource: c.accept_harm for c in made.changes} == {"a": ("cond",), "b": ()}
    FIXES["second"].HARMLESS = False
    made = plan(policy(rules=rules), FINDING, replace(FINDING, condition="other"))
    assert {c.resource: c.accept_harm for c in made.changes} == {"a": ("cond",), "b": ("other",)}


def test_a_flow_that_a_fix_is_about_is_not_deleted_either() -> None:
    FIXES["first"].wanted = (Wanted("flow:udp/eth0/53", None),)
    made = plan(policy(), FINDING, store=FakeStore(**{"flow:udp/eth0/53": "udp/x"}))
    assert summary(made) == [("create", "b", None, "1")]
    assert "flow:udp/eth0/53" in made.refused[0].reason


def test_advice_prefers_what_is_harmless() -> None:
    rules = {"cond": replace(_harmful(only=False).rules["cond"], mode="advise")}
    made = plan(policy(rules=rules), FINDING)
    assert [a.fix for a in made.advice] == ["second"]
    FIXES["second"].reason = "absent"
    made = plan(policy(rules=rules), FINDING)
    assert (made.advice, [r.wanted for r in made.refused]) == ((), [False, False])
