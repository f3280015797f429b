"""Hosts by conditions: the worst outcome of each, what needs attention first. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from remedies.report.record import OUTCOMES, WELL, HostReport

STATES = {
    "needs-human": "needs-human",
    "unreachable": "unknown",
    "applied": "needs-human",
    "reverted": "needs-human",
    "confirmed": "fixed",
    "untouched": "not-applicable",
}
"""The states in which a host comes out of a rollout, and the outcome that each looks like."""


@dataclass(frozen=True)
class Row:
    """One host."""

    name: str
    rollout: str
    """One of STATES; empty where no rollout is told of."""
    reason: str
    """Why it came out so; empty where nothing is said."""
    cells: tuple[str, ...]
    """The worst outcome of each condition; empty where it was not judged."""

    @property
    def outcomes(self) -> str:
        """Return every outcome of the host, in words."""
        return " ".join(sorted(set(filter(None, self.cells))))


@dataclass(frozen=True)
class Matrix:
    """All hosts."""

    conditions: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def rolled_out(self) -> bool:
        """Tell whether a rollout is told of."""
        return any(row.rollout for row in self.rows)


def matrix(hosts: Iterable[HostReport]) -> Matrix:
    """Return the matrix of hosts, worst first."""
    every = tuple(hosts)
    conditions = tuple(sorted({j.condition for host in every for j in host.judgements}))
    rows = (_row(host, conditions) for host in every)
    return Matrix(conditions, tuple(sorted(rows, key=_urgency)))


def _row(host: HostReport, conditions: tuple[str, ...]) -> Row:
    worst: dict[str, str] = {}
    for judgement in host.judgements:
        known = worst.get(judgement.condition, judgement.outcome)
        worst[judgement.condition] = min(known, judgement.outcome, key=OUTCOMES.index)
    state, reason = (host.rollout.state, host.rollout.message) if host.rollout else ("", "")
    return Row(host.place.name, state, reason, tuple(worst.get(name, "") for name in conditions))


def _urgency(row: Row) -> tuple[bool, list[int]]:
    return row.rollout in WELL, sorted(OUTCOMES.index(cell) for cell in row.cells if cell)


def came_out(hosts: Iterable[HostReport]) -> str:
    """Return how many hosts came out of a rollout in which state: ``3 confirmed, 1 reverted``."""
    states = [host.rollout.state for host in hosts if host.rollout]
    return ", ".join(f"{states.count(s):,} {s}" for s in STATES if s in states)
