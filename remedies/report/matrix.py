"""Hosts by conditions: the worst outcome of each, what needs attention first. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Union

from remedies.outcomes import HOSTS, JUDGED, QUIET, HostState, Judged
from remedies.report.record import HostReport

_FIRST_QUIET = min(JUDGED.index(outcome) for outcome in QUIET)


@dataclass(frozen=True)
class Row:
    """One host."""

    name: str
    rollout: Union[HostState, Literal[""]]
    """Empty where no rollout is told of."""
    reason: str
    """Why it came out so; empty where nothing is said."""
    cells: tuple[Union[Judged, Literal[""]], ...]
    """The worst outcome of each condition of the matrix; empty where it was not judged."""
    outcomes: str
    """Every outcome of the host, in words, also of conditions that have no column."""


@dataclass(frozen=True)
class Matrix:
    """All hosts."""

    conditions: tuple[str, ...]
    """Those of which something is to be told on any host, what needs attention first."""
    quiet: int
    """How many others were judged: well, or not applicable, on every host."""
    rows: tuple[Row, ...]

    @property
    def rolled_out(self) -> bool:
        """Tell whether a rollout is told of."""
        return any(row.rollout for row in self.rows)


def matrix(hosts: Iterable[HostReport]) -> Matrix:
    """Return the matrix of hosts, worst first."""
    every = tuple(hosts)
    found: dict[str, list[int]] = {}
    for host in every:
        for judgement in host.judgements:
            found.setdefault(judgement.condition, []).append(JUDGED.index(judgement.outcome))
    loud = [name for name, ranks in found.items() if min(ranks) < _FIRST_QUIET]
    conditions = tuple(sorted(loud, key=lambda name: (sorted(found[name]), name)))
    rows = (_row(host, conditions) for host in every)
    return Matrix(conditions, len(found) - len(loud), tuple(sorted(rows, key=_urgency)))


def _row(host: HostReport, conditions: tuple[str, ...]) -> Row:
    worst: dict[str, Judged] = {}
    for judgement in host.judgements:
        known = worst.get(judgement.condition, judgement.outcome)
        worst[judgement.condition] = min(known, judgement.outcome, key=JUDGED.index)
    came = host.rollout
    return Row(
        name=host.place.name,
        rollout=came.state if came else "",
        reason=came.message if came else "",
        cells=tuple(worst.get(name, "") for name in conditions),
        outcomes=" ".join(sorted(set(worst.values()))),
    )


def _urgency(row: Row) -> tuple[bool, list[int]]:
    well = not row.rollout or HOSTS[row.rollout].well
    return well, sorted(JUDGED.index(cell) for cell in row.cells if cell)


def came_out(hosts: Iterable[HostReport]) -> str:
    """Return how many hosts came out of a rollout in which state: ``3 confirmed, 1 reverted``."""
    states = [host.rollout.state for host in hosts if host.rollout]
    return ", ".join(f"{states.count(s):,} {s}" for s in HOSTS if s in states)
