"""What a transaction sees of the world: a store of resources, and how one write is made sure."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Optional, Protocol

from remedies import resources
from remedies.errors import WriteFailed
from remedies.model import Change
from remedies.outcomes import Written
from remedies.planning import reads
from remedies.transaction import crash_points
from remedies.transaction.ledger import Begin, Pending
from remedies.values import dataclass


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


class Armed(Protocol):
    """A guard that watches this process: see :mod:`remedies.transaction.guard`."""

    def begun(self) -> None:
        """Let it know that the transaction is on record: from now on something may be written."""

    def waits(self, pending: Pending) -> None:
        """Let it know that the transaction waits for its confirmation now, and until when."""

    def goes_on(self) -> bool:
        """Tell whether it lives, and will try again what this process could not undo."""

    def dismiss(self) -> None:
        """End it: the journal says how the transaction ended."""

    def for_boot(self, changes: tuple[Change, ...]) -> None:
        """Let the next boot undo ``changes`` too, unless the journal has an end by then."""


Arm = Callable[[str, Begin], Armed]
"""Puts a guard beside the transaction of this id; raises WriteFailed where that does not work."""


class _Nobody:
    def begun(self) -> None:
        pass

    def waits(self, pending: Pending) -> None:
        pass

    def goes_on(self) -> bool:
        return False

    def dismiss(self) -> None:
        pass

    def for_boot(self, changes: tuple[Change, ...]) -> None:
        pass


def arm_nothing(_txn: str, _begin: Begin) -> Armed:
    """Return a guard that is none: for a store that dies with this process."""
    return _Nobody()


@dataclass(frozen=True)
class Result:
    """How a transaction ended, or that it waits."""

    transaction: str
    outcome: Written
    reason: str = ""
    """Why it was undone, in one line."""
    stuck: tuple[str, ...] = ()
    """What could not be undone, one line each."""
    unrecorded: str = ""
    """Why the journal does not say that it was undone; empty where it does."""
    pending: Optional[Pending] = None
    """It was applied and is undone again unless it is confirmed by then."""
    open: bool = False
    """It has no end yet: something is stuck, and its guard goes on trying."""


def new_id() -> str:
    """Return a transaction id: UTC time to the second, and eight random hex digits.

    A journal takes two transactions of one id for one: of ten in one second, with four digits, two
    would share theirs once in 1500 times.
    """
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" + os.urandom(4).hex()


def apart(address: str, *states: Optional[str]) -> tuple[str, ...]:
    """Return states of one resource in a few words each, that differ where the states do."""
    return reads.apart(_text, address, *states)


def _text(address: str, state: Optional[str]) -> str:
    driver, path = resources.driver(address)
    return driver.text(path, state)


def put(store: Store, address: str, state: Optional[str], *, exact: bool = True) -> None:
    """Write a state unless it is there already, and read it back.

    Raises WriteFailed when what is read back differs. With ``exact`` False (a ``lossy`` restore)
    what is left behind does not count as failure.
    """
    if store.same(address, store.read(address), state):
        return
    crash_points.hit(f"before write {address}")
    store.write(address, state)
    crash_points.hit(f"after write {address}")
    found = store.read(address)
    if exact and not store.same(address, found, state):
        wrote, there = apart(address, state, found)
        raise WriteFailed(f"wrote {wrote} and read back {there}")
