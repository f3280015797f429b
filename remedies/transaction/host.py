"""The way from plans and transactions to resources: the kernel's own, through the drivers."""

from __future__ import annotations

from typing import Optional

from remedies import resources


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
