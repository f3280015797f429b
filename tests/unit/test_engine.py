"""What is read and how it is judged: by policy, condition by condition."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from builder import facts, finding, policy, scan

from remedies import catalogue
from remedies.errors import Unreadable
from remedies.facts.netfilter import Netfilter
from remedies.facts.owners import Owners
from remedies.facts.slab import Slab
from remedies.facts.sysctl import Sysctl
from remedies.model import Evidence, Finding, RequiredFix, Rule, Unknown, Verdict
from remedies.planning import engine

ONE, TWO, OFF = "one", "two", "off"
FOUND = finding(ONE, "a")


@pytest.fixture
def conditions(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Three conditions, and two fixes that ask for facts of their own."""
    made: dict[str, Any] = {
        name: SimpleNamespace(NEEDS=(Sysctl,), PARAMS={"low": 1, "high": 9}, detect=lambda *_: ())
        for name in (ONE, TWO, OFF)
    }
    fixes = {
        "f": SimpleNamespace(NEEDS=(Slab, Sysctl), TOPICS=("udp:53",)),
        "g": SimpleNamespace(NEEDS=(), TOPICS=("udp:54",)),
    }
    monkeypatch.setattr(catalogue, "condition_ids", lambda: tuple(made))
    monkeypatch.setattr(catalogue, "condition", made.__getitem__)
    monkeypatch.setattr(catalogue, "fix", fixes.__getitem__)
    return made


POLICY = policy({ONE: Rule("fix", "exposed", ("f",)), OFF: Rule("off", "exposed", ("g",))})


def test_a_condition_is_judged_unless_policy_switches_it_off(conditions: dict[str, Any]) -> None:
    assert engine.watched(POLICY) == (ONE, TWO)
    assert engine.rule_for(POLICY, TWO).mode == "advise"
    conditions[OFF].detect = lambda *_: (finding(OFF),)
    conditions[TWO].detect = lambda *_: (finding(TWO),)
    assert [f.condition for f in engine.scan(POLICY, facts()).findings] == [TWO]
    assert engine.scan(POLICY, facts(), frozenset({ONE})).findings == ()


def test_parameters_are_the_conditions_own_and_policys_over_them(
    conditions: dict[str, Any],
) -> None:
    seen: list[dict[str, object]] = []

    def detect(_: object, params: dict[str, object]) -> tuple[Finding, ...]:
        seen.append(params)
        return ()

    conditions[ONE].detect = detect
    engine.scan(policy({ONE: Rule("fix", "exposed", (), params={"low": 5})}), facts())
    assert seen == [{"low": 5, "high": 9}]


def test_a_condition_that_cannot_be_judged_is_unknown_and_the_others_are_judged(
    conditions: dict[str, Any],
) -> None:
    def blind(*_: object) -> tuple[Finding, ...]:
        raise Unreadable("the flow table")

    conditions[ONE].detect = blind
    conditions[TWO].detect = lambda *_: (finding(TWO),)
    found = engine.scan(POLICY, facts())
    assert found.unknown == (Unknown(ONE, "the flow table"),)
    assert [f.condition for f in found.findings] == [TWO]


@pytest.mark.parametrize(
    ("cause", "effect", "waived", "follows"),
    [
        ("proven", "active", None, ONE),
        ("active", "exposed", None, ONE),
        ("active", "mitigated", None, None),
        ("exposed", "active", None, None),
        ("unknown", "active", None, None),
        ("active", "active", "until tomorrow", None),
    ],
)
def test_what_happens_explains_what_is_open(
    conditions: dict[str, Any],
    cause: Verdict,
    effect: Verdict,
    waived: str | None,
    follows: str | None,
) -> None:
    conditions[ONE].detect = lambda *_: (finding(ONE, verdict=cause, waived=waived),)
    conditions[TWO].detect = lambda *_: (finding(TWO, verdict=effect),)
    conditions[TWO].FOLLOWS = ("three", ONE)
    found = {f.condition: f.follows_from for f in engine.scan(POLICY, facts()).findings}
    assert found == {ONE: None, TWO: follows}


def test_the_nearest_of_several_causes_explains(conditions: dict[str, Any]) -> None:
    for name in (ONE, OFF):
        conditions[name].detect = lambda *_, name=name: (finding(name, verdict="active"),)
    conditions[TWO].detect = lambda *_: (finding(TWO),)
    conditions[TWO].FOLLOWS = (OFF, ONE)
    found = {f.condition: f.follows_from for f in engine.scan(policy(), facts()).findings}
    assert found == {ONE: None, OFF: None, TWO: OFF}


def test_a_title_is_the_conditions_own_or_what_policy_states() -> None:
    stated = policy({"site.swap": Rule("advise", "exposed", (), params={"title": "it swaps"})})
    assert engine.title(stated, "site.swap") == "it swaps"
    assert engine.title(stated, "stale-flow") == catalogue.condition("stale-flow").TITLE


@pytest.mark.parametrize("said", ["", "message", "evidence"])
def test_what_was_read_in_part_is_unknown_unless_a_finding_says_so(
    conditions: dict[str, Any], said: str
) -> None:
    reason = "sysctl: too many keys"
    told = {
        "": FOUND,
        "message": finding(ONE, message=f"perhaps: {reason}"),
        "evidence": finding(ONE, evidence=(Evidence("sysctl", "keys", reason),)),
    }[said]
    conditions[ONE].NEEDS, conditions[ONE].detect = (Owners,), lambda *_: (told,)
    found = engine.scan(POLICY, facts(Owners(unread=(reason,))), frozenset({ONE}))
    assert found.unknown == (() if said else (Unknown(ONE, reason, partly=True),))
    assert found.findings == (told,)


def test_the_strongest_verdict_comes_first_then_condition_then_subject(
    conditions: dict[str, Any],
) -> None:
    conditions[ONE].detect = lambda *_: (finding(ONE, "b"), finding(ONE, "a"))
    conditions[TWO].detect = lambda *_: (finding(TWO, verdict="proven"),)
    found = engine.scan(POLICY, facts()).findings
    assert [(f.condition, f.subject) for f in found] == [(TWO, "s"), (ONE, "a"), (ONE, "b")]


def test_a_plan_reads_what_conditions_and_guards_ask_for(conditions: dict[str, Any]) -> None:
    assert engine.needs_of_scan(POLICY) == (Sysctl,)
    assert set(engine.needs_of_plan(POLICY)[0]) == {Sysctl, Slab, Netfilter}
    conditions[TWO].NEEDS = (Slab,)
    assert engine.needs_of_scan(POLICY) == (Sysctl, Slab)
    kinds, topics = engine.needs_of_plan(POLICY)
    assert set(kinds) == {Sysctl, Slab, Netfilter}
    assert topics == {"udp:53"}
    assert engine.needs_of_plan(POLICY, (("g", {}),))[1] == {"udp:53", "udp:54"}
    standing = policy(require=(RequiredFix("g", {}, "because"),))
    assert engine.needs_of_plan(standing)[1] == {"udp:54"}
    assert engine.needs_of_plan(policy()) == ((Sysctl, Slab), frozenset())


@pytest.mark.parametrize(
    ("verdict", "from_", "more", "acts"),
    [
        ("exposed", "exposed", {}, True),
        ("exposed", "active", {}, False),
        ("active", "active", {}, True),
        ("active", "proven", {}, False),
        ("proven", "active", {}, True),
        ("proven", "exposed", {"waived": "accepted by x"}, False),
        ("unknown", "exposed", {}, False),
        ("mitigated", "proven", {"mitigated_by": "remedy invalid-drop"}, True),
        ("mitigated", "exposed", {"mitigated_by": "a rule of ufw"}, False),
        ("mitigated", "exposed", {}, False),
    ],
)
def test_policy_acts_from_a_verdict_on(
    verdict: Verdict, from_: Verdict, more: dict[str, Any], acts: bool
) -> None:
    rule = Rule("fix", from_, ("f",))
    assert engine.acts(finding(verdict=verdict, **more), rule) is acts


def test_what_could_not_be_judged_is_named_once_and_what_was_judged_in_part_is_not() -> None:
    seen = scan(
        finding(TWO, "a", verdict="unknown"),
        finding(ONE, "b", verdict="unknown"),
        finding(OFF, "c", verdict="exposed"),
        unknown=(Unknown(ONE, "x"), Unknown("part", "y", partly=True)),
    )
    assert engine.unjudged(seen) == (ONE, TWO)
