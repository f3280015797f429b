"""How a plan shows a state, and two that differ, in a few words."""

from __future__ import annotations

from typing import Optional

import pytest
from fake_store import FakeStore

from remedies.errors import InputError
from remedies.planning.reads import apart, diff, short

HEAD = "x" * 80
SAME = "the same line\n"


def plain(address: str, state: Optional[str]) -> str:
    assert address == "a"
    return state or ""


def unreadable(_address: str, _state: Optional[str]) -> str:
    raise InputError("no state of ours")


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (None, "absent"),
        ("", "''"),
        ("1\n", "'1'"),
        ("a\n  b\tc\n", "'a b c'"),
        ("x" * 60, repr("x" * 60)),
        ("x" * 61, repr("x" * 57 + "...")),
    ],
)
def test_a_state_in_a_few_words(state: Optional[str], text: str) -> None:
    assert short(state) == text


@pytest.mark.parametrize("text", [plain, unreadable])
@pytest.mark.parametrize(
    ("states", "told"),
    [
        (("1", "2"), ("'1'", "'2'")),
        (("1", "1"), ("'1'", "'1'")),
        ((None, "1"), ("absent", "'1'")),
        # Of long ones, the lines that differ.
        ((f"{HEAD}\na\n", f"{HEAD}\nb\n"), ("'a'", "'b'")),
        ((f"{HEAD}\na\n", f"{HEAD}\n"), ("'a'", "''")),
        ((f"{HEAD}\na\n", f"{HEAD}\nb\n", None), ("'a'", "'b'", "absent")),
        # Of long lines, what comes after the words that they begin with.
        ((f"{HEAD}1", f"{HEAD}2"), (f"'...{'x' * 20}1'", f"'...{'x' * 20}2'")),
        ((f"{HEAD}1a", f"{HEAD}1b", f"{HEAD}2"),
         (f"'...{'x' * 20}1a'", f"'...{'x' * 20}1b'", f"'...{'x' * 20}2'")),
        # The same lines in another order, or twice.
        (
            (f"{HEAD}\na\nb\n", f"{HEAD}\nb\na\n"),
            (f"'...{'x' * 19} a b'", f"'...{'x' * 19} b a'"),
        ),
        ((f"{HEAD}\n{SAME}", f"{HEAD}\n{SAME}{SAME}"),
         ("'...xxxxxx the same line'", "'...xxxxxx the same line the same line'")),
    ],
)  # fmt: skip
def test_states_that_differ_are_told_apart(
    text: object, states: tuple[Optional[str], ...], told: tuple[str, ...]
) -> None:
    assert apart(text, "a", *states) == told  # type: ignore[arg-type]


def test_a_text_that_does_not_tell_states_apart_is_not_used() -> None:
    assert apart(lambda *_: "alike", "a", f"{HEAD}1", f"{HEAD}2") == (
        f"'...{'x' * 20}1'", f"'...{'x' * 20}2'",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        (None, "a\n", ["@@ -0,0 +1 @@", "+a"]),
        (None, "a\nb\n", ["@@ -0,0 +1,2 @@", "+a", "+b"]),
        ("a\n", None, ["@@ -1 +0,0 @@", "-a"]),
        ("a\nb\n", None, ["@@ -1,2 +0,0 @@", "-a", "-b"]),
        ("a\n", "b\n", ["@@ -1 +1 @@", "-a", "+b"]),
        ("a\nb\n", "a\nc\n", ["@@ -1,2 +1,2 @@", " a", "-b", "+c"]),
    ],
)
def test_a_diff_is_unified(before: Optional[str], after: Optional[str], lines: list[str]) -> None:
    assert diff(FakeStore(), "a", before, after).splitlines() == [
        "--- a (now)", "+++ a (wanted)", *lines,
    ]  # fmt: skip


def test_states_without_a_text_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeStore, "text", lambda _, address, state: unreadable(address, state))
    assert diff(FakeStore(), "a", "1\n", "2\n").splitlines()[2:] == ["@@ -1 +1 @@", "-1", "+2"]
    assert diff(FakeStore(), "a", None, "2\n").splitlines()[2:] == ["@@ -0,0 +1 @@", "+2"]
    assert diff(FakeStore(), "a", "1\n", None).splitlines()[2:] == ["@@ -1 +0,0 @@", "-1"]


def test_states_that_are_written_alike_have_no_diff() -> None:
    assert diff(FakeStore(), "a", None, "") == ""
    assert diff(FakeStore(), "a", "1\n", "1\n") == ""
    assert diff(FakeStore(), "a", "1", "1\n") == ""
