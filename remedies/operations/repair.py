"""Repair: replace a damaged journal by what can be read of it and by what the host shows."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Optional

from remedies import __version__
from remedies.errors import Locked, WriteFailed
from remedies.operations import session, unowned
from remedies.operations.session import HostSession
from remedies.transaction import bootguard, lock, repair, undofile
from remedies.transaction.consent import Consent
from remedies.transaction.guard import strays
from remedies.transaction.ledger import Transaction
from remedies.transaction.repair import Damage, Settled
from remedies.values import dataclass


@dataclass(frozen=True)
class Prospect:
    """What is wrong with a journal, and what a repair would keep."""

    damage: Damage
    settled: Settled
    here: HostSession
    """Its ledger is that of the new segment, without what will be adopted."""
    scripts: tuple[str, ...]
    """Ids of transactions whose undo script is there and whose ``begin`` is lost."""
    unowned: tuple[str, ...]
    """Addresses of what has our names and is in no readable record: it will be adopted."""


@dataclass(frozen=True)
class Repaired:
    """How a repair ended."""

    prospect: Optional[Prospect] = None
    """None: nothing was wrong."""
    path: str = ""
    """The new segment."""
    adopted: Optional[Transaction] = None


def examine(here: HostSession) -> Optional[Prospect]:
    """Return what is wrong and what can be kept; None if nothing is wrong."""
    damage = repair.examine(here.folder)
    if damage is None:
        return None
    settled = repair.settle(damage, here.store)
    here = session.with_ledger(here, settled.ledger)
    scripts = tuple(t for t in undofile.those(here.folder) if t not in settled.ledger)
    return Prospect(damage, settled, here, scripts, unowned.addresses(here))


def run(
    here: HostSession, agree: Callable[[Prospect], Consent], *, lock_timeout: float
) -> Repaired:
    """Start a new segment with what can be read, as ``agree`` consents to.

    Nobody is asked while the lock is held. Raises Locked while a guard is at work, WriteFailed
    where the segment cannot be written: the journal is as it was then.
    """
    found = examine(here)
    if found is None:
        return Repaired()
    agreed = agree(found)
    with lock.held(here.folder, lock_timeout):
        found = examine(here)
        if found is None:
            return Repaired()
        _no_guard(here)
        changes = unowned.adoptions(found.here)
        entry = unowned.adopt(found.here, changes, agreed) if changes else None
        carried = (*found.settled.carried, *((entry,) if entry else ()))
        try:
            for txn in found.scripts:
                undofile.keep(here.folder, txn)
            path = repair.start(found.damage, carried, agreed, __version__)
        except OSError as error:
            raise WriteFailed(
                f"{here.folder}: {error.strerror}", "the journal is as it was: free space"
            ) from error
        bootguard.sweep(here.folder, ())
    return Repaired(found, path, entry)


def _no_guard(here: HostSession) -> None:
    """Raise Locked while a guard is about to write to this journal, or to undo."""
    for stray in strays(()):
        if os.path.abspath(here.folder) == stray.folder:
            raise Locked(
                f"the guard of transaction {stray.txn} is at work (pid {stray.pid}) and undoes it "
                "unless it was confirmed",
                f"wait for it, or 'kill -TERM {stray.pid}' lets it undo at once; then repair",
            )
