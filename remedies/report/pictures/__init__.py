"""The way of a packet that proves a finding, read off its evidence: stops, and walks between them.

Only what the evidence says is drawn. Where it does not parse (a facts file that somebody edited),
there is no path and so no picture. One file draws the picture of one condition and has its name;
a condition without a file has no picture. ``draw(judgement, interfaces) -> Path | None`` is all
that such a file offers.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from typing import Optional, Protocol, cast

from remedies.report.evidence import Interfaces
from remedies.report.pictures.shapes import Path
from remedies.report.record import Interface, Judgement


class Drawing(Protocol):
    """What a module of this folder offers."""

    def draw(self, judgement: Judgement, interfaces: Interfaces) -> Optional[Path]:
        """Return the packet's way, or None where the evidence shows none."""


def path(judgement: Judgement, interfaces: Iterable[Interface]) -> Optional[Path]:
    """Return the packet's way of a proven finding, or None where the evidence shows none."""
    name = f"{__name__}.{judgement.condition.replace('-', '_')}"
    if judgement.verdict != "proven" or importlib.util.find_spec(name) is None:
        return None
    return cast(Drawing, importlib.import_module(name)).draw(judgement, tuple(interfaces))
