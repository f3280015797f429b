"""Markdown that says what was meant: host values as code, prose without live characters."""

from __future__ import annotations

import re

CUT = 300
"""Characters of one host value in a ticket."""

_LIVE = re.compile(r"([\\`*_\[\]<>|#~!&{}()])")
_LINE_START = re.compile(r"^(|\d+(?=\.(?: |$)))([-+=.])")
"""Of an item, or of what makes the line above it a heading; ``1)`` is live anyway."""


def cut(text: str, most: int = CUT) -> str:
    """Return ``text``, or its beginning and how long it is."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def prose(text: str) -> str:
    """Return text in which no character means anything to Markdown or HTML, on one line.

    Links are not made of bare addresses, and nobody is called by an ``@name``: trackers take that
    from the rendered text, so an empty comment keeps the two apart.
    """
    line = " ".join(cut(text, 1000).split())
    line = _LINE_START.sub(r"\1\\\2", _LIVE.sub(r"\\\1", line))
    line = line.replace("://", "\\://").replace("www.", "www\\.")
    return line.replace("@", "@<!-- -->")


def code(text: str) -> str:
    """Return text as a code span, on one line; fit for a table cell."""
    line = " ".join(cut(text).split()).replace("|", "\\|")
    if not line:
        return ""
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def block(text: str, language: str = "") -> str:
    """Return text as a fenced block that nothing in it can end."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)
