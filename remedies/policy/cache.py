"""Root's cache of compiled policies: one JSON file for each list of sources.

An entry names every file it was compiled from with its digest, so a hit needs no YAML parser.
It is used only while each of those files, the tool's version and the tool's own conditions, fixes
and policy compiler are what they were. Whatever is wrong with an entry makes it a miss.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from typing import Any, Optional

import remedies
from remedies import codec, model, private_file
from remedies.errors import InputError
from remedies.policy import sources as policy_sources
from remedies.policy.sources import SourcePlace

_FORMAT = 1
_KEPT = 16
"""Entries. A host has one or two policies; what compiles another file each time leaves no heap."""
_ENTRY = r"[0-9a-f]{32}\.json"
_PACKAGE = os.path.dirname(os.path.abspath(remedies.__file__))


def catalogue() -> str:
    """Return a digest that changes with the tool's version and what a policy is judged by.

    Names, sizes and times of the files, not their bytes: that is for a checkout, where files change
    under one version. In a zip they cannot, and the version has to do.
    """
    files = []
    for part in ("conditions", "fixes", "policy"):
        try:
            with os.scandir(os.path.join(_PACKAGE, part)) as entries:
                for entry in entries:
                    if entry.name.endswith(".py"):
                        status = entry.stat()
                        files.append([part, entry.name, status.st_size, status.st_mtime_ns])
        except NotADirectoryError:
            break
    return model.digest([remedies.__version__, sorted(files)])


def read(folder: str, sources: Sequence[str]) -> Optional[model.Policy]:
    """Return the policy compiled from exactly these sources as they are now; None is a miss.

    Raises ConfigError for a source that root must not obey (see :func:`sources.read`).
    """
    entry = _entry(_path(folder, sources))
    if entry is None or entry.get("format") != _FORMAT or entry.get("catalogue") != catalogue():
        return None
    try:
        for path, label, is_shipped, digest in entry["sources"]:
            if not os.path.exists(path):
                return None
            data = policy_sources.read(SourcePlace(path, label, is_shipped))
            if policy_sources.digest(data) != digest:
                return None
        return codec.decode(model.Policy, entry["policy"], "cached policy")
    except (InputError, KeyError, TypeError, ValueError):
        return None


def write(
    folder: str,
    sources: Sequence[str],
    policy: model.Policy,
    compiled_from: Sequence[tuple[SourcePlace, str]],
) -> None:
    """Keep a compiled policy with the places and digests it was compiled from.

    The entry appears whole or not at all. A folder that is not the caller's alone, or cannot be
    written, gets no entry: the cache only saves time.
    """
    entry = {
        "format": _FORMAT,
        "catalogue": catalogue(),
        "sources": [[p.path, p.label, p.shipped, digest] for p, digest in compiled_from],
        "policy": codec.encode(policy),
    }
    private_file.write(_path(folder, sources), json.dumps(entry))
    _forget_the_oldest(folder)


def _forget_the_oldest(folder: str) -> None:
    """Remove all entries but the newest; another command may do the same just now."""
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        entries = [
            (each.stat().st_mtime_ns, each.path)
            for each in found
            if re.fullmatch(_ENTRY, each.name)
        ]
        for _, path in sorted(entries)[:-_KEPT]:
            os.unlink(path)


def _path(folder: str, sources: Sequence[str]) -> str:
    """Return the entry's file; a relative source means another file in another directory."""
    where = [[spec, os.path.abspath(spec)] for spec in sources]
    return os.path.join(folder, f"{model.digest(where)[:32]}.json")


def _entry(path: str) -> Optional[dict[str, Any]]:
    """Return an entry that nobody else can have written, or None."""
    content = private_file.read(path)
    try:
        entry = codec.loads(content.decode(), path) if content else None
    except (ValueError, InputError):
        return None
    return entry if isinstance(entry, dict) else None
