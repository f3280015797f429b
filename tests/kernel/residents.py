"""Who lives in a namespace: a look at all namespaces, another test's, visits each for a moment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

_EVERYWHERE = "--all-netns"
_VISITOR = "visits-all"
"""Of up to 15 bytes: a process's name, which those that it starts inherit (PR_SET_NAME)."""


def residents(inside: Iterable[int]) -> dict[int, str]:
    """Return the command lines of processes that are in a namespace, but for those that visit."""
    found = {}
    for pid in inside:
        place = Path(f"/proc/{pid}")
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            command = (place / "cmdline").read_text(errors="replace").replace("\0", " ")
            visits = (place / "comm").read_bytes() == f"{_VISITOR}\n".encode()
            # Who is about to end has no command line any more.
            if command and not visits and f" {_EVERYWHERE}" not in command:
                found[pid] = command
    return found


def name_visitor(words: Sequence[str]) -> None:
    """Give this process a visitor's name where it is to be a command line that visits.

    As a fork it shows the command line of whoever it was forked from.
    """
    if _EVERYWHERE in words:
        Path("/proc/self/comm").write_text(_VISITOR)
