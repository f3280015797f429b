"""Help: every verb has examples, each of which the parser takes; 'help VERB' shows them."""

from __future__ import annotations

import importlib
import shlex
import subprocess
import sys

import pytest

from remedies import cli
from remedies.cli import parser


@pytest.mark.parametrize("verb", parser.VERBS)
def test_every_verb_has_examples_that_can_be_typed(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = importlib.import_module(f"remedies.cli.{verb}").EXAMPLES
    assert examples
    assert {parser.parse(shlex.split(words)).verb for words, _ in examples} == {verb}
    with pytest.raises(SystemExit):
        cli.main(["help", verb])
    shown = capsys.readouterr().out
    assert all(f"  remedy {words}\n      {does}\n" in shown for words, does in examples)
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    assert capsys.readouterr().out == shown


def test_the_first_page_loads_nothing_that_only_verbs_need() -> None:
    heavy = ("contextlib", "datetime", "importlib.util", "remedies.namespaces", "typing")
    text = f"""
import sys
from remedies.cli import main
try:
    main(["--help"])
finally:
    print(sorted(sys.modules.keys() & set({heavy})), file=sys.stderr)
"""
    ran = subprocess.run(  # without site, which loads what the environment wants
        [sys.executable, "-S", "-c", text], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("usage: remedy")
    assert ran.stderr.strip() == "[]"


def test_help_alone_is_the_first_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["help"])
    assert capsys.readouterr().out == parser.build(bare=True).format_help()


@pytest.mark.parametrize("words", [["--netns", "x", "help", "show"], ["-q", "help", "show"]])
def test_help_may_stand_behind_options(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(words)
    assert capsys.readouterr().out.startswith("usage: remedy show ")


def test_a_verbs_page_does_not_repeat_the_options_of_every_verb(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["scan", "--help"])
    shown = capsys.readouterr().out
    assert "--window" in shown
    assert "--lock-timeout" not in shown
    assert "remedy --help" in shown
    assert parser.parse(["scan", "--lock-timeout", "2s"]).lock_timeout == 2


@pytest.mark.parametrize(
    ("word", "says"),
    [("exposed", "proven: "), ("low", "moderate: "), ("8", "8: "), ("143", "70: ")],
)
def test_words_and_numbers_of_the_output_are_explained(
    word: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", word]) == 0
    assert says in capsys.readouterr().out
