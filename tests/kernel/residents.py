"""Who lives in a namespace: a scan of all namespaces, another test's, visits each for a moment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path


def residents(inside: Iterable[int]) -> dict[int, str]:
    """Return the command lines of processes that are in a namespace, but for those that visit."""
    found = {}
    for pid in inside:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
            if " --all-netns" not in command:
                found[pid] = command
    return found
