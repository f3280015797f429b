"""Help: every verb has examples, each of which the parser takes; 'help VERB' shows them."""

from __future__ import annotations

import importlib
import shlex

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


def test_help_alone_is_the_first_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["help"])
    assert capsys.readouterr().out == parser.build(bare=True).format_help()
