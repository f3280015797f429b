"""A stateful model of resources in memory: not a mock, it keeps what is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from remedies.errors import WriteFailed
from remedies.transaction import consent

YES = consent.played("root", check=False)
"""What a test writes with."""


class FakeStore:
    """Resources by address. ``broken`` addresses fail to write, ``clamped`` ones read otherwise."""

    def __init__(self, **states: str) -> None:
        """Begin with these states."""
        self.states: dict[str, Optional[str]] = dict(states)
        self.broken: set[str] = set()
        self.unchecked: set[str] = set()
        self.clamped: dict[str, str] = {}
        self.writes: list[tuple[str, Optional[str]]] = []
        self.before_write: Callable[[str], None] = lambda address: None

    def read(self, address: str) -> Optional[str]:
        return self.states.get(address)

    def same(self, address: str, one: Optional[str], other: Optional[str]) -> bool:
        return one == other

    def text(self, address: str, state: Optional[str]) -> str:
        return state or ""

    def check(self, address: str, state: Optional[str]) -> None:
        if address in self.unchecked:
            raise WriteFailed(f"{address}: the kernel would refuse")

    def write(self, address: str, state: Optional[str]) -> None:
        self.before_write(address)
        if address in self.broken:
            raise WriteFailed("no space left")
        self.writes.append((address, state))
        self.states[address] = self.clamped.get(address, state)
