"""The man page: what it has beside the help of every verb."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from remedies.cli import manual, settings
from remedies.cli.topics import EXIT_CODES

SECTIONS = ("EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO")


def test_it_names_exit_codes_variables_and_files() -> None:
    sections = manual.sections()
    assert tuple(sections) == SECTIONS
    assert all(f".B {codes}\n" in sections["EXIT STATUS"] for codes in EXIT_CODES)
    for name in settings.FROM_ENVIRONMENT:
        assert f".B REMEDY_{name.upper()}\n" in sections["ENVIRONMENT"]
    assert settings.FILE in sections["FILES"]


def test_roff_prints_text_as_it_is() -> None:
    assert manual._listed({"-n": ".5 \\ '"}) == ".TP\n.B \\-n\n\\&.5 \\e '\n"
    assert manual._listed({"'a'": "b"}) == ".TP\n.B \\&'a'\nb\n"


def test_the_page_is_built_and_does_not_repeat_itself(tmp_path: Path) -> None:
    include = tmp_path / "manual.roff"
    include.write_text("".join(manual.lines()))
    built = subprocess.run(
        [
            os.path.join(os.path.dirname(sys.executable), "argparse-manpage"),
            "--module", "remedies.cli.manual", "--function", "build", "--prog", "remedy",
            "--project-name", "remedies", "--include", str(include),
        ],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    headings = re.findall(r"^\.SH (.*)$", built, re.MULTILINE)
    assert [name for name in headings if name in SECTIONS] == list(SECTIONS)
    assert built.count("\\-\\-lock\\-timeout") <= 2
