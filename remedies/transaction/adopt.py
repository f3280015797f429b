"""Taking over what is in force under our names and no journal has: on record as ours from then on.

Nothing on the host is changed. What was there before is taken for absent: tables ``remedy_*``,
chains ``REMEDY-*`` and boot files with our first line are nobody else's, so taking them away is the
whole way back. It is one record, so that no crash leaves half of it.
"""

from __future__ import annotations

from typing import Literal

from remedies.facts.gather import now
from remedies.transaction import ledger
from remedies.transaction.consent import Consent, demand
from remedies.transaction.journal import Journal
from remedies.transaction.ledger import Begin, Transaction
from remedies.transaction.store import new_id
from remedies.values import replace

ADOPTED: Literal["adopted"] = "adopted"
"""The kind of the record and the outcome of its transaction."""


def adopted(begin: Begin, consent: Consent) -> Transaction:
    """Return the transaction that has every change of ``begin`` in force, as ``consent`` allows."""
    demand(consent)
    return Transaction(
        id=new_id(),
        time=now(),
        begin=replace(begin, consent=consent.how),
        written=list(begin.order),
        outcome=ADOPTED,
        ended=now(),
        reason="it was in force and in no journal",
    )


def record(journal: Journal, entry: Transaction) -> None:
    """Put an adopted transaction on record. Hold the lock. Raises OSError."""
    journal.append(ADOPTED, entry.id, ledger.carried((entry,)))
