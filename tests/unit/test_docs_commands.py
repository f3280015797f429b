"""Commands and options that the docs quote are ones: each is parsed as the command line does."""

from __future__ import annotations

import re
import shlex
from argparse import _SubParsersAction
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remedies import errors
from remedies.cli import parser

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for where in ("*.md", "docs/**/*.md", "tests/*.md", "playbooks/*.md", "policies/*.md")
    for path in ROOT.glob(where)
    if path.name != "CHANGELOG.md"  # tells of options that were
)

STANDS_FOR = {"VERB": "scan", "KIND": "scan", "SCENARIO": "tcp-invalid-reset", "ID": "notrack"}
"""What is put where a page says a word in capitals, and that word itself would not do."""


ADDED = ("owner ", "fleet doctor")
"""What docs/writing-*.md add; :mod:`test_writing_pages` runs it in a copy."""


def quoted(text: str) -> Iterator[str]:
    """Yield every command line of the tool that a page quotes, with more than a verb."""
    for block in re.findall(r"^```(?:sh|text)\n(.*?)^```", text, re.M | re.S):
        yield from re.findall(r"^(?:\$ |sudo |\S+/bin/)?remedy ([a-z][^#|\n]* .*)$", block, re.M)
    inline = re.findall(
        r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    )
    verbs = "|".join(parser.VERBS)
    for code in inline:
        yield from re.findall(rf"^(?:remedy )?((?:{verbs}|VERB) \S.*)$", code)


def words(command: str) -> list[str]:
    """Return a quoted command as a person would type it."""
    command = re.split(r"\s[|#>]", command)[0]
    command = re.sub(r"\[([^\]]*)\]", r"\1", command).replace("|zsh|fish", "")
    return [STANDS_FOR.get(word, word) for word in shlex.split(command) if word != "..."]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_that_is_quoted_is_one(path: Path) -> None:
    """Parse them all; what --help prints is one, too."""
    wrong = []
    for command in dict.fromkeys(quoted(path.read_text())):
        if command.startswith(ADDED):
            continue
        try:
            parser.parse(words(command))
        except errors.UsageError as error:
            wrong.append(f"{command}: {error}")
        except SystemExit as done:
            wrong += [command] if done.code else []
    assert wrong == []


def test_a_wrong_command_is_seen() -> None:
    text = "```sh\nsudo remedy scan --windw 1s  # why\n```\n`remedy fleet plan -i F`, `scan --bad`"
    assert list(quoted(text)) == ["scan --windw 1s  # why", "fleet plan -i F", "scan --bad"]
    for bad in ("scan --windw 1s  # why", "scan --bad"):
        with pytest.raises(errors.UsageError):
            parser.parse(words(bad))


def options(of: Any) -> Iterator[str]:
    """Yield every option of a parser and of those below it."""
    for action in of._actions:
        yield from action.option_strings
        if isinstance(action, _SubParsersAction):
            for below in action.choices.values():
                yield from options(below)


OF_OTHERS = {"--check", "--config", "--diff", "--publish"}
"""Options of other programs that the pages name."""


def test_every_option_that_is_named_exists() -> None:
    known = {*options(parser.build()), *OF_OTHERS}
    named = {
        (path.name, option)
        for path in PAGES
        for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", path.read_text())
        for option in re.findall(r"^(--[a-z][a-z-]+)", code)
    }  # fmt: skip
    assert sorted(one for one in named if one[1] not in known) == []
