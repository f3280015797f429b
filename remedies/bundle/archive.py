"""The zip that the single-file host tool is: files, and the bytecode of its modules.

Bytecode lies beside each module as Python's own ``.pyc``, marked as never to be compared with its
source (PEP 552), so Python's own importer of zips loads it. Another version of Python compiles the
sources in every run; a fleet host does so once and keeps a zip of its own (``start/launch.py``).
"""

from __future__ import annotations

import importlib.util
import io
import marshal
import sys
import zipfile
from collections.abc import Mapping

SHEBANG = b"#!/usr/bin/env python3\n"
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold
_UNCHECKED_HASH = 1  # flags of a pyc that nobody compares with its source (PEP 552)
_MARSHAL = 2 if sys.version_info < (3, 14) else marshal.version
"""Version 2 of marshal's format depends on the code alone, later ones on what else is in memory
(interned texts). From 3.14 on, code holds slices, which only version 5 can say."""


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a zip that Python runs, of files by name and of bytecode for this Python.

    The same files and the same Python make the same bytes; no path of this machine is in them.
    """
    compiled = {
        f"{name}c": _bytecode(name, source)
        for name, source in files.items()
        if name.endswith(".py") and name != "__main__.py"  # any Python can read why it cannot run
    }
    buffer = io.BytesIO(SHEBANG)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, data in sorted({**files, **compiled}.items()):
            archive.writestr(zipfile.ZipInfo(name, _DATE), data)
    return buffer.getvalue()


def of_this_python(path: str) -> bytes:
    """Return the zip at ``path`` with bytecode for this Python."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith(".pyc")]
        return zipped({name: archive.read(name) for name in names})


def _bytecode(name: str, source: bytes) -> bytes:
    code = compile(source, name, "exec", dont_inherit=True)
    flags = _UNCHECKED_HASH.to_bytes(4, "little")
    head = importlib.util.MAGIC_NUMBER + flags + importlib.util.source_hash(source)
    return head + marshal.dumps(code, _MARSHAL)
