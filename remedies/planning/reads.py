"""How a plan looks at resources: what it may ask of them, and how it shows a difference."""

from __future__ import annotations

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


def diff(reads: Reads, address: str, before: Optional[str], after: Optional[str]) -> str:
    """Return a unified diff of two states as their users write them."""
    try:
        old, new = reads.text(address, before), reads.text(address, after)
    except RemedyError:
        old, new = before or "", after or ""
    names = f"{address} (now)", f"{address} (wanted)"
    if not old and new:  # most plans create something: that needs no comparison
        added = new.splitlines()
        head = (
            f"--- {names[0]}",
            f"+++ {names[1]}",
            f"@@ -0,0 +1{f',{len(added)}' if len(added) > 1 else ''} @@",
        )
        return "\n".join([*head, *(f"+{line}" for line in added)])
    import difflib  # milliseconds that only a plan that compares pays for

    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), *names, lineterm="")
    return "\n".join(lines)
