"""What is in force, whether it still is what we wrote, and what our rules have counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Optional

from remedies import resources
from remedies.errors import RemedyError
from remedies.model import Held
from remedies.values import dataclass, field

if TYPE_CHECKING:
    from remedies.transaction.ledger import Transaction


@dataclass(frozen=True)
class InForce:
    """One resource that the journal says is ours."""

    transaction: str
    fix: str
    resource: str
    state: str
    """``ours``, ``drifted``, ``gone``, or ``unknown`` where it could not be read."""
    counters: dict[str, int] = field(default_factory=dict)
    now: Optional[str] = None
    """What is there, when that is not ours."""
    reason: str = ""


def in_force(held: Mapping[str, Held]) -> tuple[InForce, ...]:
    """Read every resource that is in force and compare it with what we wrote."""
    return tuple(_judge(entry) for entry in held.values())


def unowned(ledger: dict[str, Transaction]) -> tuple[str, ...]:
    """Return the addresses of tables ``remedy_*`` and chains ``REMEDY-*`` that ``ledger`` lacks.

    They are of another state directory, or their journal was lost. Raises Unreadable where the
    kernel does not say.
    """
    from remedies.resources import present
    from remedies.transaction import ledger as ledgers

    known = {c.resource for entry in ledgers.unfinished(ledger) for c in entry.begin.changes}
    known |= ledgers.in_force(ledger).keys()
    return tuple(address for address in present.addresses() if address not in known)


def _judge(entry: Held) -> InForce:
    driver, path = resources.driver(entry.resource)
    state, now, counters, reason = "ours", None, {}, ""
    try:
        now = driver.read(path)
        if driver.same(path, now, entry.ours):
            counters = driver.counters(path)
        else:
            state = "gone" if driver.same(path, now, None) else "drifted"
    except RemedyError as error:
        state, reason = "unknown", str(error)
    return InForce(
        transaction=entry.transaction,
        fix=entry.fix,
        resource=entry.resource,
        state=state,
        counters=counters,
        now=now if state == "drifted" else None,
        reason=reason,
    )
