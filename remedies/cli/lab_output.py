"""Prints what the lab shows: with rich on a terminal that has it, as plain text elsewhere."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from remedies.cli.terminal import Style, clean

if TYPE_CHECKING:
    from rich.console import Console

MOST_LINES = 60
"""Lines of one command's output that are shown; the rest is counted."""


class Teller:
    """Prints headings, commands, their output and verdicts; with ``--json`` nothing."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Use rich where colour is wanted (see :class:`Style`) and rich is installed."""
        self._silent = bool(args.json)
        self._console: Optional[Console] = None
        if Style(args).colour:
            try:
                from rich.console import Console
            except ImportError:
                return
            self._console = Console(highlight=False, soft_wrap=True)

    def _say(self, text: str, style: str) -> None:
        if self._silent:
            return
        if self._console is None:
            print(clean(text), flush=True)
            return
        from rich.text import Text

        self._console.print(Text(clean(text), style=style))

    def text(self, text: str) -> None:
        """Print a paragraph."""
        self._say(text, "")

    def heading(self, text: str) -> None:
        """Print the title of a step."""
        self._say(f"\n{text}", "bold")

    def command(self, argv: Sequence[str]) -> None:
        """Print a command as one would type it."""
        self._say(f"  $ {shlex.join(argv)}", "cyan")

    def output(self, text: str) -> None:
        """Print what a command said, indented, at most ``MOST_LINES`` lines of it."""
        lines = text.rstrip().splitlines()
        for line in lines[:MOST_LINES]:
            self._say(f"    {line}".rstrip(), "dim")
        if len(lines) > MOST_LINES:
            self._say(f"    ... {len(lines) - MOST_LINES} more lines", "")

    def verdict(self, ok: bool, text: str) -> None:
        """Print whether a step came out as expected."""
        self._say(f"  {'ok' if ok else 'NOT AS EXPECTED'}: {text}", "green" if ok else "bold red")
