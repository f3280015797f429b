"""What reaches a terminal: colour, its width, local times, no raw control character."""

from __future__ import annotations

import argparse
import os
import sys

from remedies.cli.parser import columns
from remedies.printable import clean

__all__ = ["Style", "clean"]

_NARROWEST = 20  # columns left for text, however far it is indented
_WIDEST = 100  # columns: longer lines of prose are hard to read
VERDICT_COLOURS = {"proven": "red", "active": "red", "exposed": "yellow", "mitigated": "green"}
"""The verdicts that have one, the gravest first."""
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Style:
    """Colour for one stream, or none."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Decide by the flags, NO_COLOR, FORCE_COLOR, TERM and whether stdout is a terminal."""
        self.colour = _wants_colour(args)
        self.width = 0 if args.plain or not sys.stdout.isatty() else min(columns(), _WIDEST)

    def __call__(self, name: str, text: str) -> str:
        """Return ``text`` in a colour: bold, dim, red, green, yellow or cyan."""
        return f"\x1b[{_CODES[name]}m{text}\x1b[0m" if self.colour else text

    def verdict(self, verdict: str) -> str:
        """Return a verdict, padded, in its colour."""
        return self(VERDICT_COLOURS.get(verdict, "dim"), f"{verdict:9}")

    def diff(self, text: str) -> str:
        """Return a unified diff with its added and removed lines coloured."""
        if not self.colour:
            return text
        colours = {"+": "green", "-": "red", "@": "dim"}
        return "\n".join(
            self(colours[line[0]], line) if line[:1] in colours else line
            for line in text.split("\n")
        )

    def wrap(self, text: str, indent: str) -> list[str]:
        """Return ``text`` in lines behind ``indent``, as wide as the terminal is.

        One line if the output is no terminal, or with --plain: other programs search by line.
        """
        if not self.width or len(indent) + len(text) <= self.width:
            return [indent + text]

        width = max(self.width, len(indent) + _NARROWEST)
        import textwrap  # its expressions take longer to compile than a line takes to print

        return textwrap.wrap(
            text,
            width,
            initial_indent=indent,
            subsequent_indent=indent + ("  " if text.startswith(("- ", "! ")) else ""),
            break_long_words=False,
            break_on_hyphens=False,
        )


def _wants_colour(args: argparse.Namespace) -> bool:
    if args.plain or args.no_color or args.json or os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
