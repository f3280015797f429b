"""The manual pages: one of the command, one of each verb, with what no parser knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remedies.cli import manual, settings
from remedies.cli.parser import VERBS
from remedies.cli.topics import EXIT_CODES

SECTIONS = ["EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return manual.pages()


def test_there_is_one_for_the_command_and_for_each_verb(pages: dict[str, str]) -> None:
    assert list(pages) == ["remedy", *(f"remedy-{verb}" for verb in VERBS)]
    for name, text in pages.items():
        # What whatis(1) and apropos(1) look for.
        assert f"\n.SH NAME\n{name} ".replace("-", "\\-") in text
        assert re.findall(r"^\.SH (.*)$", text, re.MULTILINE)[-5:] == SECTIONS


def test_each_names_exit_codes_variables_and_files(pages: dict[str, str]) -> None:
    for text in pages.values():
        assert all(f".B {codes}\n" in text for codes in EXIT_CODES)
        for name in settings.FROM_ENVIRONMENT:
            assert f".B REMEDY_{name.upper()}\n" in text
        assert settings.FILE in text


def test_the_command_has_a_line_for_each_verb_and_their_pages_all_options(
    pages: dict[str, str],
) -> None:
    assert all(f"\\fI\\,{verb}\\/\\fR" in pages["remedy"] for verb in VERBS)
    assert "\\fB\\-n\\fR" not in pages["remedy"]
    assert "\\fB\\-n\\fR" in pages["remedy-apply"]
    of_every_verb = "\\fB\\-\\-lock\\-timeout\\fR"
    assert of_every_verb in pages["remedy"]
    assert of_every_verb not in pages["remedy-apply"]


def test_roff_prints_text_as_it_is() -> None:
    assert manual._listed({"-n": ".5 \\ '"}) == ".TP\n.B \\-n\n\\&.5 \\e '\n"
    assert manual._listed({"'a'": "b"}) == ".TP\n.B \\&'a'\nb\n"


def test_a_page_is_a_file(tmp_path: Path, pages: dict[str, str]) -> None:
    written = list(manual.write(str(tmp_path / "man")))
    assert [Path(path).name for path in written] == [f"{name}.1" for name in pages]
    assert Path(written[0]).read_text() == pages["remedy"]
