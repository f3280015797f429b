"""What is on this host under our names and in no journal at hand."""

from __future__ import annotations

from remedies.resources import present
from remedies.transaction.ledger import Transaction, in_force, unfinished


def unowned(ledger: dict[str, Transaction]) -> tuple[str, ...]:
    """Return the addresses of what is under our names (resources.present) and ``ledger`` lacks.

    They are of another state directory, or their journal was lost. Raises Unreadable where the
    kernel does not say.
    """
    known = {c.resource for entry in unfinished(ledger) for c in entry.begin.changes}
    known |= in_force(ledger).keys()
    return tuple(address for address in present.addresses() if address not in known)
