"""The confusion matrix: what scans of the lab's worlds, under traffic, say of every condition.

The lab's own tests tell each story and hand its scans in; nothing is built for the matrix alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

PROPERTY = "confusion"
"""Under which name a test hands its row over to the process that prints."""

_FINDING = re.compile(r"(proven|active|exposed|mitigated|unknown) +([a-z0-9-]+)(?:  \S|$)")
_FOLLOWS = re.compile(r" +follows from ([a-z0-9-]+)$")
_STRENGTH = ("unknown", "mitigated", "exposed", "active", "proven")
_ACCUSES = ("active", "proven")


class Row(NamedTuple):
    """One world: which condition it is about, and the strongest verdict on each of all."""

    world: str
    fault: str
    """The condition that is to be found; empty for a healthy twin."""
    judged: Mapping[str, str]
    follows: Mapping[str, str]
    """Condition to the one that it is said to follow from."""

    @property
    def wrongly_accused(self) -> list[str]:
        """Return what is active or proven, is not the fault and does not follow from it."""
        return sorted(
            condition
            for condition, verdict in self.judged.items()
            if verdict in _ACCUSES
            and condition != self.fault
            and (not self.fault or self.follows.get(condition) != self.fault)
        )


def row(world: str, fault: str, scans: Iterable[str]) -> Row:
    """Return the row of a world, from what its scans printed."""
    judged: dict[str, str] = {}
    follows: dict[str, str] = {}
    for line in "\n".join(scans).splitlines():
        if found := _FINDING.match(line):
            verdict, last = found.groups()
            judged[last] = max(judged.get(last, "unknown"), verdict, key=_STRENGTH.index)
        elif found := _FOLLOWS.match(line):
            follows[last] = found[1]
    return Row(world, fault, judged, follows)


def table(rows: Iterable[Row], conditions: tuple[str, ...]) -> list[str]:
    """Return the matrix as lines: a world each, a column for each condition."""
    rows = sorted(rows)
    wide = max((len(one.world) for one in rows), default=0)
    lines = [f"{number:2} {condition}" for number, condition in enumerate(conditions, 1)]
    lines.append("P proven, A active, e exposed, m mitigated, ? unknown; f follows from the fault")
    lines.append(" " * wide + "".join(f"{number:4}" for number in range(1, len(conditions) + 1)))
    for one in rows:
        cells = [_cell(one, condition) for condition in conditions]
        lines.append(f"{one.world:{wide}}" + "".join(f"{cell:>4}" for cell in cells))
    return lines


def _cell(one: Row, condition: str) -> str:
    if condition in one.wrongly_accused:
        return "!!"
    if condition in one.follows and one.follows[condition] == one.fault:
        return "f"
    mark = {"proven": "P", "active": "A", "exposed": "e", "mitigated": "m", "unknown": "?"}
    return mark.get(one.judged.get(condition, ""), ".")
