"""The strict codec: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import importlib
import json
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies import codec, facts, model, values
from remedies.catalogue import condition, condition_ids
from remedies.errors import InputError
from remedies.model import Change, Evidence, Finding, Rule, Severity, Terms, Verdict
from remedies.transaction import ledger

TEXT = st.text(max_size=20)
EVIDENCE = st.builds(Evidence, TEXT, TEXT, TEXT, TEXT)
FINDINGS = st.builds(
    Finding,
    condition=TEXT,
    subject=TEXT,
    verdict=st.sampled_from(get_args(Verdict)),
    severity=st.sampled_from(get_args(Severity)),
    message=TEXT,
    evidence=st.lists(EVIDENCE, max_size=3).map(tuple),
    mitigated_by=st.none() | TEXT,
    waived=st.none() | TEXT,
    details=st.dictionaries(TEXT, TEXT, max_size=3),
)
EXAMPLE = codec.encode(Evidence("source", "key", "value", ""))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@given(FINDINGS)
def test_round_trip(finding: Finding) -> None:
    text = codec.dumps(finding)
    assert codec.decode(Finding, codec.loads(text, "f"), "f") == finding


@given(PLAIN)
def test_anything_else_is_refused_with_its_place(plain: object) -> None:
    with pytest.raises(InputError, match=r"facts\.json"):
        codec.decode(Finding, plain, "facts.json")


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: b.decode("latin-1")))
def test_loads_returns_or_says_where(text: str) -> None:
    try:
        json.loads(text, parse_constant=int)
    except ValueError:
        with pytest.raises(InputError, match=r"plan\.json:"):
            codec.loads(text, "plan.json")
    else:
        codec.loads(text, "plan.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "'a' occurs twice"),
        ("[NaN]", "NaN is not an accepted number"),
        ("[" * 100_000, "nested too deep"),
        ("[" * 70 + "]" * 70, "nested too deep"),
        ("{", "p:1:2: not JSON"),
    ],
)
def test_hostile_json(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        codec.loads(text, "p")


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"evidence": [EXAMPLE, {**EXAMPLE, "value": 7}]}, r"f\.evidence\[1\]\.value"),
        ({"details": {"protocol": "tcp", "port": 7}}, r"f\.details\.port"),
    ],
)
def test_a_value_within_others_is_named_from_the_outside_in(
    wrong: dict[str, object], place: str
) -> None:
    finding = Finding("condition", "subject", "exposed", "high", "message")
    with pytest.raises(InputError, match=f"^{place}: expected str, found int"):
        codec.decode(Finding, {**codec.encode(finding), **wrong}, "f")


def test_the_word_from_is_a_key() -> None:
    rule = Rule(mode="fix", from_="active", fixes=("invalid-drop",))
    assert codec.encode(rule)["from"] == "active"
    assert codec.decode(Rule, codec.encode(rule), "r") == rule


def test_unknown_missing_and_mistyped_keys_are_named() -> None:
    good = codec.encode(Evidence("s", "k", "v"))
    with pytest.raises(InputError, match=r"e: unknown key 'x'"):
        codec.decode(Evidence, {**good, "x": 1}, "e")
    with pytest.raises(InputError, match=r"e: the key 'value' is missing"):
        codec.decode(Evidence, {"source": "s", "key": "k"}, "e")
    with pytest.raises(InputError, match=r"e.value: expected str, found int"):
        codec.decode(Evidence, {**good, "value": 1}, "e")


@pytest.mark.parametrize(
    ("key", "word"),
    [("verdict", "bogus"), ("verdict", ""), ("verdict", "Proven"), ("severity", "info")],
)
def test_a_word_that_is_none_of_a_closed_set_is_refused_with_its_place(key: str, word: str) -> None:
    good = codec.encode(Finding("c", "s", "proven", "high", ""))
    with pytest.raises(InputError, match=rf"f\.{key}: '{word}' is not one of") as caught:
        codec.decode(Finding, {**good, key: word}, "f")
    assert caught.value.exit_code == 65
    with pytest.raises(InputError, match=rf"f\.{key}: expected a word, found list"):
        codec.decode(Finding, {**good, key: [word]}, "f")


def test_history_may_hold_a_word_that_is_none_and_gets_the_one_that_stands_for_it() -> None:
    good = codec.encode(Finding("c", "s", "proven", "high", ""))
    read = codec.decode(Finding, {**good, "verdict": "bogus"}, "f", {Verdict: "unknown"})
    assert (read.verdict, read.severity) == ("unknown", "high")
    with pytest.raises(InputError, match=r"f\.severity"):
        codec.decode(Finding, {**good, "severity": "bogus"}, "f", {Verdict: "unknown"})


@pytest.mark.parametrize("text", ['"\\ud800"', '{"a": ["\\uDC00\\ud800"]}', '{"\\udfff": 1}'])
def test_half_a_character_is_refused_and_a_pair_is_one(text: str) -> None:
    with pytest.raises(InputError, match="p: a text holds half a character"):
        codec.loads(text, "p")
    codec.loads(text, "p", recorded=True)
    assert codec.loads('"\\ud83d\\ude00"', "p") == "\U0001f600"


def test_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "SIZE_LIMIT", 10)
    with pytest.raises(InputError, match="more than 10 characters"):
        codec.loads(json.dumps("x" * 20), "big")


def test_a_change_reversed_twice_is_itself_but_for_words() -> None:
    terms = Terms(params={"a": [1]})
    change = Change(
        "f", None, "sysctl:net.x", "create", None, "1", "", "exact", "low", "", (), True, terms
    )
    assert change.reversed().reversed() == change
    assert (change.reversed().before, change.reversed().after) == ("1", None)


def test_types_of_fields_are_what_typing_takes_them_for() -> None:
    needed = {kind.__module__ for name in condition_ids() for kind in condition(name).NEEDS}
    modules = [model, ledger, facts, *map(importlib.import_module, sorted(needed))]
    kinds = {
        kind
        for module in modules
        for kind in vars(module).values()
        if values.fields(kind) is not None and kind.__module__ == module.__name__
    }
    assert len(kinds) > 50
    for kind in kinds:
        try:
            hints = get_type_hints(kind)
        except NameError:  # its types are for checkers: it is in no file
            continue
        assert dict(codec.members(kind).values()) == hints
