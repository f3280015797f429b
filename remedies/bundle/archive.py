"""The zip that the single-file host tool is: files, and the bytecode of its modules.

Bytecode lies beside each module as Python's own ``.pyc``, marked as never to be compared with its
source (PEP 552), so Python's own importer of zips loads it. Another version of Python compiles the
sources in every run. A fleet host does so once, and keeps a zip of its own (``start/launch.py``):
without sources, and with bytecode that need not be the same bytes everywhere, it is three fifths as
long, which is what its digest and its directory take in every run.
"""

from __future__ import annotations

import importlib.util
import io
import marshal
import sys
import zipfile
from collections.abc import Mapping
from types import CodeType

SHEBANG = b"#!/usr/bin/env python3\n"
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold
_UNCHECKED_HASH = 1  # flags of a pyc that nobody compares with its source (PEP 552)
_HEAD = 16
"""Bytes of a pyc before its code."""
_MARSHAL = 2 if sys.version_info < (3, 14) else marshal.version
"""Version 2 of marshal's format depends on the code alone, later ones on what else is in memory
(interned texts). From 3.14 on, code holds slices, which only version 5 can say."""


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a zip that Python runs, of files by name and of bytecode for this Python.

    The same files and the same Python make the same bytes; no path of this machine is in them.
    """
    compiled = {
        f"{name}c": _pyc(source, _compiled(name, source), _MARSHAL)
        for name, source in files.items()
        if _is_module(name)
    }
    return _written({**files, **compiled})


def of_this_python(path: str) -> bytes:
    """Return what this Python runs of the zip at ``path``: its bytecode, and no module's source."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    made = {name: data for name, data in files.items() if not name.endswith((".py", ".pyc"))}
    for name, source in files.items():
        if _is_module(name):
            given = files.get(f"{name}c", b"")
            if given.startswith(importlib.util.MAGIC_NUMBER):
                code = marshal.loads(given[_HEAD:])  # noqa: S302  # the digest was checked
            else:
                code = _compiled(name, source)
            made[f"{name}c"] = _pyc(source, code, marshal.version)
        elif name.endswith(".py"):
            made[name] = source
    return _written(made)


def _is_module(name: str) -> bool:
    # Any Python can read in __main__.py why it cannot run the rest.
    return name.endswith(".py") and name != "__main__.py"


def _written(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO(SHEBANG)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _DATE), data)
    return buffer.getvalue()


def _compiled(name: str, source: bytes) -> CodeType:
    return compile(source, name, "exec", dont_inherit=True)


def _pyc(source: bytes, code: CodeType, version: int) -> bytes:
    flags = _UNCHECKED_HASH.to_bytes(4, "little")
    head = importlib.util.MAGIC_NUMBER + flags + importlib.util.source_hash(source)
    return head + marshal.dumps(code, version)
