"""Facts: a frozen snapshot of what the kernel says. One file in this folder per probe.

A probe is a module with one frozen dataclass, the fact, whose name is the module's in capitals
(``sysctl.py`` holds ``Sysctl``), and

``read(asking) -> Fact``
    reads it once; or, for what has to be watched over time,
``watch(asking) -> Watch``
    starts to watch it; the engine lets every watch hear until ``asking.window`` is over.

Both raise :class:`remedies.errors.Unreadable` with the reason when the fact cannot be read at all.
A fact that is readable in part says so in a field of its own named ``unread`` (reasons).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Generic, Optional, Protocol, TypeVar, cast

from remedies.errors import Unreadable
from remedies.model import Host
from remedies.values import dataclass, field

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


def name_of(kind: type[Any]) -> str:
    """Return the name of the probe that reads ``kind``: its module's name."""
    return kind.__module__.rpartition(".")[2]


@dataclass(frozen=True)
class Facts:
    """Every fact that was asked for: read, or unknown with its reason."""

    host: Host
    time: str
    """RFC 3339, UTC: when the reading ended."""
    window: float
    """Seconds during which counters and packets were watched; 0 is one reading."""
    known: dict[str, object] = field(default_factory=dict)
    """Probe name to its frozen fact."""
    unknown: dict[str, str] = field(default_factory=dict)
    """Probe name to why it could not be read."""
    ours: tuple[str, ...] = ()
    """Addresses of the resources that our journal says are in force."""

    def get(self, kind: type[T]) -> T:
        """Return the fact of this kind; raise :class:`Unreadable` with the reason if unknown."""
        name = name_of(kind)
        if name in self.known:
            return cast(T, self.known[name])
        raise Unreadable(self.unknown.get(name, f"{name} was not read"))

    @property
    def unread(self) -> tuple[str, ...]:
        """Return why parts of the facts could not be read, each reason once."""
        return self._unread(self.known)

    def unread_of(self, kinds: Iterable[type[Any]]) -> tuple[str, ...]:
        """Return why parts of the facts of these kinds could not be read, each reason once."""
        return self._unread(map(name_of, kinds))

    def _unread(self, names: Iterable[str]) -> tuple[str, ...]:
        parts = (getattr(self.known.get(name), "unread", ()) for name in names)
        return tuple(dict.fromkeys(reason for part in parts for reason in part))


@dataclass(frozen=True)
class Asking:
    """What a probe is told: how long it may take, what is wanted, and what is known already."""

    host: Host
    window: float = 0.0
    """Seconds a watch may last."""
    timeout: float = 5.0
    """Seconds one reading may take; past that the probe raises Unreadable and says so."""
    known: dict[str, object] = field(default_factory=dict)
    """Facts read before this one, by probe name (for :meth:`earlier`)."""
    topics: frozenset[str] = frozenset()
    """What conditions and fixes want beyond the fact's own minimum (see each probe)."""
    cache: Optional[str] = None
    """Folder of what only saves time; None: nothing is kept."""

    def earlier(self, kind: type[T]) -> T | None:
        """Return a fact read before this one, or None where it is unknown or not asked for."""
        return cast("T | None", self.known.get(name_of(kind)))

    def deadline(self) -> float:
        """Return the monotonic time at which a reading that begins now must have ended."""
        return time.monotonic() + self.timeout


class Watch(Protocol[T_co]):
    """Something watched while the window lasts."""

    def fileno(self) -> int:
        """Return the descriptor to poll, or -1 where only begin and end matter."""

    def hear(self) -> None:
        """Take in what has arrived on the descriptor, without blocking."""

    def finish(self) -> T_co:
        """Stop watching, release everything, and return the fact."""

    def close(self) -> None:
        """Release everything without an answer; safe to call after :meth:`finish`."""


class Unwatched(Generic[T]):
    """The watch of a window of 0, or of nothing: nobody listens, and ``fact`` says so."""

    def __init__(self, fact: T) -> None:
        """Take the fact that it finishes with."""
        self._fact = fact

    def fileno(self) -> int:
        """Return -1: there is nothing to poll."""
        return -1

    def hear(self) -> None:
        """Nothing arrives."""

    def finish(self) -> T:
        """Return the fact."""
        return self._fact

    def close(self) -> None:
        """Nothing is held."""
