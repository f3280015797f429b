"""From findings to a plan: which fix is used, what is kept, what is given back, what is refused."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import ModuleType
from typing import Optional, Union

import pytest
from fake_store import FakeStore

from remedies import catalogue, codec
from remedies.errors import Unreadable
from remedies.facts import Facts
from remedies.model import (
    Advice,
    Change,
    Finding,
    Held,
    Host,
    Kept,
    Mode,
    Plan,
    Policy,
    RequiredFix,
    Rule,
    Scan,
    Terms,
    Unknown,
    Verdict,
    Wanted,
)
from remedies.planning import plan as planning
from remedies.planning import reads
from remedies.values import replace

HOST = Host("h", "m", "k", "host", "b")
FACTS = Facts(HOST, "t", 0.0)
FINDING = Finding("cond", "subject", "exposed", "high", "message")


class FakeFix(ModuleType):
    """A fix that wants what it is told to want."""

    TITLE = "does something"
    ANSWERS = ("cond",)
    RISK = "low"
    HARMLESS = True
    NEEDS: tuple[type, ...] = ()
    TOPICS: tuple[str, ...] = ()
    PARAMS: Mapping[str, object] = {"size": 1}

    def __init__(self, name: str, *wanted: Wanted) -> None:
        super().__init__(name)
        self.wanted: Union[tuple[Wanted, ...], Advice] = wanted
        self.reason: Optional[str] = None
        self.blind = False
        self.terms: Optional[Terms] = None

    def guard(self, finding: Optional[Finding], facts: Facts, terms: Terms) -> Optional[str]:
        if self.blind:
            raise Unreadable("rules cannot be read")
        return self.reason

    def desired(
        self, finding: Optional[Finding], facts: Facts, terms: Terms
    ) -> Union[tuple[Wanted, ...], Advice]:
        self.terms = terms
        return self.wanted

    def impact(self, finding: Optional[Finding], facts: Facts, terms: Terms) -> str:
        return "little"


FIXES: dict[str, FakeFix] = {}


@pytest.fixture(autouse=True)
def _fixes(monkeypatch: pytest.MonkeyPatch) -> None:
    FIXES.clear()
    FIXES["first"] = FakeFix("first", Wanted("a", "1"))
    FIXES["second"] = FakeFix("second", Wanted("b", "1"))
    monkeypatch.setattr(catalogue, "fix", FIXES.__getitem__)
    monkeypatch.setattr(catalogue, "fix_ids", lambda: tuple(FIXES))


def policy(mode: Mode = "fix", *, every: bool = False, **more: object) -> Policy:
    rule = Rule(mode, "exposed", ("first", "second"), every)
    base = Policy(("p",), "d", "nftables", False, {"cond": rule})
    return replace(base, **more)  # type: ignore[arg-type]


def plan(
    policy: Policy,
    *findings: Finding,
    store: Optional[FakeStore] = None,
    held: Optional[Mapping[str, Held]] = None,
    prune: bool = False,
) -> Plan:
    scan = Scan(HOST, "t", findings, ())
    return planning.plan(policy, FACTS, scan, held or {}, store or FakeStore(), prune=prune)


def summary(made: Plan) -> list[tuple[str, str, Optional[str], Optional[str]]]:
    return [(c.action, c.resource, c.before, c.after) for c in made.changes]


HELD_A = {"a": Held("a", "first", None, "1", "t1", policy=("p",))}


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


def test_advice_prefers_what_is_harmless() -> None:
    rules = {"cond": replace(_harmful(only=False).rules["cond"], mode="advise")}
    made = plan(policy(rules=rules), FINDING)
    assert [a.fix for a in made.advice] == ["second"]
    FIXES["second"].reason = "absent"
    made = plan(policy(rules=rules), FINDING)
    assert (made.advice, [r.wanted for r in made.refused]) == ((), [False, False])


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


def test_what_we_cover_is_kept() -> None:
    finding = replace(FINDING, verdict="mitigated", mitigated_by="remedy a")
    assert plan(policy(), finding, store=FakeStore(a="1"), held=HELD_A).changes == ()


def test_what_drifted_is_restored() -> None:
    made = plan(policy(), FINDING, store=FakeStore(a="2"), held=HELD_A)
    assert summary(made) == [("update", "a", "2", "1")]


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


def test_another_fix_in_its_place_is_made_before_the_old_one_goes() -> None:
    FIXES["first"].reason = "asymmetric now"
    finding = replace(FINDING, verdict="mitigated", mitigated_by="remedy a")
    made = plan(policy(), finding, store=FakeStore(a="1"), held=HELD_A)
    assert [c.action for c in made.changes] == ["create", "remove"]


def test_a_removal_never_overwrites_a_third_party() -> None:
    made = plan(policy("off"), store=FakeStore(a="theirs"), held=HELD_A)
    assert made.changes == ()
    assert "somebody changed it since t1" in made.refused[0].reason


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


def test_unknown_conditions_are_no_absent_conditions() -> None:
    """A condition that could not be judged keeps its fix: it may well still be needed."""
    scan = Scan(HOST, "t", (), (Unknown("cond", "why"),))
    made = planning.plan(policy(), FACTS, scan, HELD_A, FakeStore(a="1"), prune=True)
    assert made.changes == ()


def test_a_blind_guard_gives_nothing_back() -> None:
    FIXES["first"].blind = True
    standing = (RequiredFix("first", {}, "because"),)
    made = plan(policy("off", require=standing), store=FakeStore(a="1"), held=HELD_A)
    assert made.changes == ()
    assert made.refused[0].wanted


OTHER = Finding("cond", "another subject", "exposed", "high", "message")


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
    back = codec.decode(Change, codec.encode(change.reversed()), "plan")
    assert back.uses == change.uses


def test_a_finding_and_what_is_required_are_each_judged_again() -> None:
    required = RequiredFix("first", {"size": 2}, "because")
    (change,) = plan(policy(require=(required, required)), FINDING).changes
    assert [name for name, _ in change.uses] == [FINDING.id, None]


@pytest.mark.parametrize(("before", "after"), [(None, "x"), (None, "x\ny\n"), ("", "x\n\ny")])
def test_a_diff_of_something_new_is_what_difflib_makes(before: str | None, after: str) -> None:
    whole = difflib.unified_diff([], after.splitlines(), "a (now)", "a (wanted)", lineterm="")
    made = reads.diff(FakeStore(), "a", before, after)
    assert made == "\n".join(whole)
