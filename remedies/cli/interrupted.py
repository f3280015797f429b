"""After a signal stops a verb that writes: one line that says what was kept and what was undone."""

from __future__ import annotations

from collections.abc import Callable

from remedies.cli import Terminated
from remedies.cli.parser import warn
from remedies.local_time import local
from remedies.operations import session
from remedies.operations.session import HostSession
from remedies.outcomes import KEPT
from remedies.transaction.ledger import Transaction

SIGNALS = (KeyboardInterrupt, Terminated)
"""What SIGINT, SIGTERM and SIGHUP raise."""


def told(here: HostSession, write: Callable[[], int]) -> int:
    """Return what ``write`` returns; if a signal stops it, print what is left first."""
    try:
        return write()
    except SIGNALS:
        if tell(here):
            return 4
        raise


def tell(before: HostSession) -> bool:
    """Print how the transactions since ``before`` ended; return whether one is stuck."""
    begun = [e for e in session.reread(before).ledger.values() if e.id not in before.ledger]
    if not begun:
        warn("stopped; nothing was changed")
    for entry in begun:
        warn(f"stopped; {_end_of(entry)}")
    return any(entry.stuck for entry in begun)


def _end_of(entry: Transaction) -> str:
    name = f"transaction {entry.id}"
    if entry.stuck:
        why = "; ".join(entry.stuck)
        return f"{name} cannot be undone: {why}; fix that, then run 'remedy rollback'"
    if entry.pending is not None and entry.outcome is None:
        when = local(entry.pending.until)
        return f"{name} is undone at {when} unless 'remedy confirm' is run before"
    if entry.outcome is None:
        return f"{name} is being ended by its guard; 'remedy status' shows the result"
    if entry.begin.kind == "rollback":
        return f"{', '.join(entry.begin.undoes)} was already rolled back"
    if entry.outcome in KEPT:
        return f"{name} was already applied; 'remedy rollback' undoes it"
    return f"{name} was undone: the host is as before"
