"""Prose as wide as the terminal; whole lines for pipes and --plain; colour counts no columns."""

from __future__ import annotations

import argparse
import re
import sys

import pytest

from remedies import catalogue
from remedies.cli import main, render
from remedies.cli.terminal import Style
from remedies.model import Advice, Finding, Host, Plan, PolicyRef, Refusal, Scan, Unknown

IDS = (*catalogue.condition_ids(), *catalogue.fix_ids())
LONG = "a word or two of what was seen here, and why it matters; " * 5


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.delenv("NO_COLOR", raising=False)


def style(*, plain: bool = False) -> Style:
    return Style(argparse.Namespace(plain=plain, no_color=False, json=False))


def shown(text: str) -> list[str]:
    return [re.sub(r"\x1b\[\d*m", "", line) for line in text.splitlines()]


@pytest.mark.parametrize("words", [["list"], *(["explain", name] for name in IDS)])
def test_what_is_read_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    on_terminal(monkeypatch, 80)
    assert main(words) == 0
    wide = shown(capsys.readouterr().out)
    assert max(map(len, wide)) <= 80
    assert main([*words, "--plain"]) == 0
    plain = capsys.readouterr().out
    assert "".join(" ".join(wide).split()) == "".join(plain.split()), "the same words"
    assert "\x1b" not in plain


def test_a_plan_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    on_terminal(monkeypatch, 80)
    found = Finding("tcp-invalid-reset", "tcp", "proven", "high", LONG, waived=LONG)
    scan = Scan(
        Host("h", "m", "6.1", "host", "b"), "t", (found,), (Unknown("conntrack-pressure", LONG),)
    )
    refused = (Refusal("notrack", None, LONG),)
    advice = (Advice("x", None, "title", "unheard-of", {"what": "short"}),)
    plan = Plan(scan, PolicyRef((), ""), (), advice, refused)
    lines = shown(render.plan_text(plan, style(), verbose=0))
    assert max(map(len, lines)) <= 80
    whole = render.plan_text(plan, style(plain=True), verbose=0).splitlines()
    assert sum(LONG.rstrip() in line for line in whole) == 4


def test_an_entry_of_a_list_hangs_and_a_narrow_terminal_keeps_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_terminal(monkeypatch, 30)
    lines = style().wrap(f"- {LONG}", "    ")
    assert lines[0].startswith("    - a")
    assert all(line.startswith("      ") for line in lines[1:])
    assert style().wrap("a/very/long/path/that/cannot/be/broken/anywhere", "    ") == [
        "    a/very/long/path/that/cannot/be/broken/anywhere"
    ]


def test_a_wide_terminal_is_not_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    on_terminal(monkeypatch, 400)
    lines = style().wrap(LONG, "")
    assert max(map(len, lines)) <= 100
