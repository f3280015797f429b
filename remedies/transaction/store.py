"""What a transaction sees of the world: a store of resources, and how one write is made sure."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Optional, Protocol

from remedies.errors import WriteFailed


class Store(Protocol):
    """What a transaction needs of resources; :class:`HostResources` is the real one."""

    def read(self, address: str) -> Optional[str]:
        """Return the canonical text of what is there."""

    def same(self, address: str, one: Optional[str], other: Optional[str]) -> bool:
        """Tell whether two canonical texts mean the same state."""

    def check(self, address: str, state: Optional[str]) -> None:
        """Ask the kernel whether a write would work."""

    def write(self, address: str, state: Optional[str]) -> None:
        """Make it so."""


@dataclass(frozen=True)
class Result:
    """How a transaction ended."""

    transaction: str
    outcome: str
    """``applied``, ``rolled-back`` or ``incomplete``."""
    reason: str = ""
    """Why it was undone, in one line."""
    stuck: tuple[str, ...] = ()
    """What could not be undone, one line each."""


def new_id() -> str:
    """Return a transaction id: UTC time to the second, and four random hex digits."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" + secrets.token_hex(2)


def short(state: Optional[str]) -> str:
    """Return a state in a few words, for a message."""
    if state is None:
        return "absent"
    line = " ".join(state.split())
    return repr(line if len(line) <= 60 else line[:57] + "...")


def put(store: Store, address: str, state: Optional[str], *, exact: bool = True) -> None:
    """Write a state unless it is there already, and read it back.

    Raises WriteFailed when what is read back differs. With ``exact`` False (a ``lossy`` restore)
    what is left behind does not count as failure.
    """
    if store.same(address, store.read(address), state):
        return
    store.write(address, state)
    found = store.read(address)
    if exact and not store.same(address, found, state):
        raise WriteFailed(f"wrote {short(state)} and read back {short(found)}")
