"""Audit reports: one record, made from scan, plan and journal, and one file per format.

``record`` holds the values, ``collect`` and ``deeds`` make them, ``redact`` makes them fit to
leave the host. A format is a module of ``formats/``, or of ``formats/library/`` where it needs a
library, with ``HELP`` (one line) and ``render(report)``, a pure function of the record; it is
found by looking into the folders, and imported only when it is asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Protocol, cast

from remedies.errors import RemedyError, UsageError
from remedies.libraries import how_to_add
from remedies.report import formats as _formats
from remedies.report.record import Report


class Format(Protocol):
    """What a module of ``formats/`` offers."""

    HELP: str

    def render(self, report: Report) -> Iterator[str]:
        """Yield the text of a report in this format, in pieces of any length."""


def formats() -> tuple[str, ...]:
    """Return the name of every format, sorted."""
    return tuple(sorted(_modules()))


def _modules() -> dict[str, str]:
    """Return the module of each format by name; a bundle has none that needs a library."""
    found = pkgutil.walk_packages(_formats.__path__, f"{_formats.__name__}.")
    return {m.name.rpartition(".")[2].replace("_", "-"): m.name for m in found if not m.ispkg}


def load(name: str) -> Format:
    """Return a format; raise UsageError where there is none, RemedyError where a library lacks."""
    modules = _modules()
    if name not in modules:
        raise UsageError(f"no report format {name!r}", f"known: {', '.join(sorted(modules))}")
    try:
        module = importlib.import_module(modules[name])
    except ModuleNotFoundError as error:
        raise RemedyError(
            f"the format {name} needs the Python module {error.name}",
            how_to_add(error.name or ""),
        ) from None
    return cast(Format, module)
