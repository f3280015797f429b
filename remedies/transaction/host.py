"""The way from plans and transactions to resources: the kernel's own, through the drivers."""

from __future__ import annotations

from typing import Optional

from remedies import resources
from remedies.resources import present
from remedies.transaction.ledger import Transaction, in_force, unfinished


class HostResources:
    """Reads, compares, checks and writes resources of the namespace this process is in."""

    def read(self, address: str) -> Optional[str]:
        """Return the canonical text of what is there, None for absent; raise Unreadable."""
        driver, path = resources.driver(address)
        return driver.read(path)

    def same(self, address: str, one: Optional[str], other: Optional[str]) -> bool:
        """Tell whether two canonical texts mean the same state."""
        driver, path = resources.driver(address)
        return one == other or driver.same(path, one, other)

    def text(self, address: str, state: Optional[str]) -> str:
        """Return the state as its users write it; empty for absent."""
        driver, path = resources.driver(address)
        return driver.text(path, state)

    def check(self, address: str, state: Optional[str]) -> None:
        """Ask the kernel whether :meth:`write` would work; raise WriteFailed if not."""
        driver, path = resources.driver(address)
        driver.check(path, state)

    def write(self, address: str, state: Optional[str]) -> None:
        """Make it so; raise WriteFailed."""
        driver, path = resources.driver(address)
        driver.write(path, state)


def unowned(ledger: dict[str, Transaction]) -> tuple[str, ...]:
    """Return the addresses of what is under our names (resources.present) and ``ledger`` lacks.

    They are of another state directory, or their journal was lost. Raises Unreadable where the
    kernel does not say.
    """
    known = {c.resource for entry in unfinished(ledger) for c in entry.begin.changes}
    known |= in_force(ledger).keys()
    return tuple(address for address in present.addresses() if address not in known)
