"""Keep the help text in README.md true: ``--check`` compares, without it the text is written."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from remedies.cli import parser

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- help: begin -->\n```text\n", "```\n<!-- help: end -->"


def main() -> int:
    """Compare or write; 1 where they differ."""
    os.environ["COLUMNS"] = "98"
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = before + BEGIN + parser.build().format_help() + END + after
    if "--check" not in sys.argv:
        README.write_text(wanted)
        return 0
    if text != wanted:
        print("README.md: the help text is not the real one; run 'python tests/readme_help.py'")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
