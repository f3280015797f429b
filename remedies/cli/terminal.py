"""What reaches a terminal: colour where it is wanted, and never a raw control character."""

from __future__ import annotations

import argparse
import os
import sys

from remedies.printable import clean

__all__ = ["Style", "clean"]

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Style:
    """Colour for one stream, or none."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Decide by the flags, NO_COLOR, FORCE_COLOR, TERM and whether stdout is a terminal."""
        self.colour = _wants_colour(args)

    def __call__(self, name: str, text: str) -> str:
        """Return ``text`` in a colour: bold, dim, red, green, yellow or cyan."""
        return f"\x1b[{_CODES[name]}m{text}\x1b[0m" if self.colour else text

    def verdict(self, verdict: str) -> str:
        """Return a verdict, padded, in its colour."""
        colours = {"proven": "red", "active": "red", "exposed": "yellow", "mitigated": "green"}
        return self(colours.get(verdict, "dim"), f"{verdict:9}")

    def diff(self, text: str) -> str:
        """Return a unified diff with its added and removed lines coloured."""
        if not self.colour:
            return text
        colours = {"+": "green", "-": "red", "@": "dim"}
        return "\n".join(
            self(colours[line[0]], line) if line[:1] in colours else line
            for line in text.split("\n")
        )


def _wants_colour(args: argparse.Namespace) -> bool:
    if args.plain or args.no_color or args.json or os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
