"""How a plan looks at resources: what it may ask of them, and how it shows a difference."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Optional, Protocol

from remedies.errors import RemedyError


class Reads(Protocol):
    """How a plan looks at resources. It never writes one."""

    def read(self, address: str) -> Optional[str]:
        """Return the canonical text of what is there, None for absent."""

    def same(self, address: str, one: Optional[str], other: Optional[str]) -> bool:
        """Tell whether two canonical texts mean the same state."""

    def text(self, address: str, state: Optional[str]) -> str:
        """Return the state as its users write it."""

    def check(self, address: str, state: Optional[str]) -> None:
        """Raise WriteFailed where the state could not be written; nothing is changed."""


def short(state: Optional[str]) -> str:
    """Return a state in a few words, for a message."""
    if state is None:
        return "absent"
    line = " ".join(state.split())
    return repr(line if len(line) <= 60 else line[:57] + "...")


def apart(
    text: Callable[[str, Optional[str]], str], address: str, *states: Optional[str]
) -> tuple[str, ...]:
    """Return each state of one resource in a few words, different for different states.

    ``text`` returns a state as its users write it, or raises RemedyError. Of long states,
    only the lines that differ, without the words that these have in common at their start.
    """
    told = tuple(short(state) for state in states)
    if len(set(told)) == len(set(states)):
        return told
    texts = _texts(text, address, states)
    found = [lines.splitlines() for lines, state in zip(texts, states) if state is not None]
    common = set(found[0]).intersection(*found[1:])
    kept = [" ".join(" ".join(line for line in lines.splitlines() if line not in common).split())
            for lines in texts]  # fmt: skip
    if len(set(kept)) < len(set(states)):  # the same lines, in another order or number
        kept = [" ".join(lines.split()) for lines in texts]
    pairs = itertools.combinations(set(kept), 2)
    starts = {max(0, _alike(*pair) - 20) for pair in pairs}
    for start in sorted(starts):
        head = "..." if start else ""
        told = tuple(
            "absent" if state is None else short(head + line[start:])
            for line, state in zip(kept, states)
        )
        if len(set(told)) == len(set(states)):
            break
    return told


def _alike(one: str, other: str) -> int:
    """Return how many characters two texts begin with in common."""
    pairs = enumerate(zip(one, other))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _texts(
    text: Callable[[str, Optional[str]], str], address: str, states: Sequence[Optional[str]]
) -> tuple[str, ...]:
    """Return states as their users write them, where that tells them apart, else as they are."""
    try:
        texts = tuple(text(address, state) for state in states)
    except RemedyError:
        texts = ()
    plain = tuple(state or "" for state in states)
    return texts if len(set(texts)) == len(set(plain)) else plain


def diff(reads: Reads, address: str, before: Optional[str], after: Optional[str]) -> str:
    """Return a unified diff of two states as their users write them."""
    try:
        old, new = reads.text(address, before), reads.text(address, after)
    except RemedyError:
        old, new = before or "", after or ""
    names = f"{address} (now)", f"{address} (wanted)"
    gone, come = old.splitlines(), new.splitlines()
    if gone == come:
        return ""
    if not gone or not come or len(gone) == len(come) == 1:  # nothing stays: nothing to compare
        return "\n".join(
            [
                f"--- {names[0]}",
                f"+++ {names[1]}",
                f"@@ -{_lines(gone)} +{_lines(come)} @@",
                *(f"-{line}" for line in gone),
                *(f"+{line}" for line in come),
            ]
        )
    import difflib  # milliseconds that only a plan that compares pays for

    return "\n".join(difflib.unified_diff(gone, come, *names, lineterm=""))


def _lines(some: Sequence[str]) -> str:
    """Return how a unified diff says which lines they are of a text that has no others."""
    return {0: "0,0", 1: "1"}.get(len(some), f"1,{len(some)}")
