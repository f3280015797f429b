"""What belongs to the host side: the files that the bundle carries, and that keep to Python 3.9."""

from __future__ import annotations

import os
from collections.abc import Iterator

CONTROL = (
    "bundle/",
    "fleet/",
    "lab/",
    "policy/",
    "report/",
    "cli/bundle.py",
    "cli/completion.py",
    "cli/export.py",
    "cli/fleet",
    "cli/lab.py",
    "cli/policy.py",
    "cli/schema.py",
)
"""The control side, as beginnings of paths within the package."""
HOST_IN_CONTROL = (
    "bundle/__init__.py",
    "bundle/archive.py",
    "policy/__init__.py",
    "policy/cache.py",
    "policy/sources.py",
    "policy/waivers.py",
    "report/__init__.py",
    "report/chain.py",
    "report/collect.py",
    "report/controls.py",
    "report/conversation.py",
    "report/evidence.py",
    "report/headline.py",
    "report/history.py",
    "report/host_info.py",
    "report/markdown_escape.py",
    "report/picture.py",
    "report/picture_style.py",
    "report/pictures/__init__.py",
    "report/pictures/shapes.py",
    "report/record.py",
    "report/redact.py",
    "report/sheet.py",
    "report/transactions.py",
    "report/trend.py",
    "report/written.py",
)
"""What makes bytecode for the host's Python, what a compiled policy needs, a host's record of
itself, and what draws a conversation."""
_FORMATS = "report/formats"
"""The formats that need the standard library alone are its files; the others lie in a folder below.
"""
_STARTS = "start/"
"""In the bundle as its ``__main__.py``, not as modules."""


def host_side(package: str) -> list[str]:
    """Return the files of the host side in ``package`` (a folder), as sorted relative paths."""
    return [name for name, _, _ in stamps(package)]


def bundled(package: str) -> list[str]:
    """Return those of :func:`host_side` that are modules in the bundle."""
    return [name for name in host_side(package) if not name.startswith(_STARTS)]


def stamps(package: str) -> list[tuple[str, int, int]]:
    """Return the files of the host side, sorted, with size and time (ns) of each."""
    return sorted(found for found in _sources(package, "") if _on_host(found[0]))


def _on_host(name: str) -> bool:
    """Tell whether a file of the package, by its relative path, is of the host side."""
    exempt = name in HOST_IN_CONTROL or os.path.dirname(name) == _FORMATS
    return exempt or not name.startswith(CONTROL)


def _sources(folder: str, inside: str) -> Iterator[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                status = entry.stat()
                yield inside + entry.name, status.st_size, status.st_mtime_ns
            elif entry.name not in ("__pycache__", "shipped_data") and entry.is_dir():
                yield from _sources(entry.path, f"{inside}{entry.name}/")
