"""Words and lines of a driver's part in an undo script, for a POSIX shell. Pure.

What was there before may hold names and comments that somebody else chose: they become words in
single quotes, or lines of a here-document that none of them can end.
"""

from __future__ import annotations

import shlex

from remedies.errors import InputError
from remedies.values import NamedTuple

END = "END-OF-REMEDY"
HINT = "look at it and remove it yourself"


class Undo(NamedTuple):
    """How a shell puts back what was there, without this tool."""

    lines: str
    """Commands, with the functions of :data:`remedies.transaction.undofile.FUNCTIONS`."""
    programs: tuple[str, ...] = ()
    """What they need beside a POSIX system: ``nft -j``, ``iptables-legacy-restore``."""


def word(text: str) -> str:
    """Return text as one word of the shell; raise InputError for what none can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError("it is not Unicode", HINT) from None
    if "\0" in text:
        raise InputError("it holds a NUL", HINT)
    return shlex.quote(text)


def fed(command: str, text: str) -> str:
    """Return a command with its standard input; raise InputError for a line that would end it."""
    if END in text.split("\n") or "\0" in text:
        raise InputError(f"it holds the line {END} or a NUL", HINT)
    return f"{command} <<'{END}'\n{text}{END}\n"
