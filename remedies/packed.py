"""Imports the modules of the single-file tool from bytecode that lies in one piece.

Python's own importer for zips opens the file twice for each module, reads each module twice and,
where the bundle was built by another Python, compiles all of them in every run: half a second.
Here the bytecode of a module is read from its place in a file. It stands at the head of the bundle;
a host whose Python is another one makes a file of it at its first run, and keeps that beside the
bundle.

The form: two lines (:data:`SHEBANG`; ``# bytecode MAGIC SIZE``), SIZE bytes of index, the modules.
The index is a marshalled dictionary of names: (whether it is a package, where it begins behind the
index, its length).
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any, Callable, Optional

MAGIC = importlib.util.MAGIC_NUMBER.hex()
"""What bytecode has to be marked with for this Python to run it."""
SHEBANG = b"#!/usr/bin/env python3\n"
FORM = 2
"""The last form of ``marshal`` that does not tell what else was in memory: later ones mark texts
that somebody else refers to, or has interned."""


def pack(sources: Mapping[str, bytes]) -> bytes:
    """Return the bytecode of modules for this Python, from their paths in the bundle and sources.

    It names the paths inside the bundle, none of this machine.
    """
    index, modules, begin = {}, [], 0
    for path in sorted(sources):
        data = marshal.dumps(compile(sources[path], path, "exec", dont_inherit=True), FORM)
        name = path[: -len(".py")].replace("/", ".")
        package = name.endswith(".__init__")
        index[name[: -len(".__init__")] if package else name] = (package, begin, len(data))
        modules.append(data)
        begin += len(data)
    head = marshal.dumps(index, FORM)
    return b"".join([SHEBANG, f"# bytecode {MAGIC} {len(head)}\n".encode(), head, *modules])


class Importer:
    """Finds and loads the modules of the bundle at ``path``; a finder of ``sys.meta_path``."""

    def __init__(self, path: str, packed: str, index: bytes, begin: int, archive: Any) -> None:
        """Take the file of bytecode, its index and where that ends; the importer of zips."""
        self._path, self._packed, self._begin, self._archive = path, packed, begin, archive
        self._modules: dict[str, tuple[bool, int, int]] = marshal.loads(index)  # noqa: S302

    def find_spec(
        self, name: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        """Return what the import system wants to know; None for what is not in the bundle."""
        if name not in self._modules:
            return None
        place = os.path.join(self._path, *name.split("."))
        package = self._modules[name][0]
        file = os.path.join(place, "__init__.py") if package else f"{place}.py"
        spec = ModuleSpec(name, self, origin=file, is_package=package)  # type: ignore[arg-type]
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [place]
        return spec

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        """Leave making the module to the import system."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code in it."""
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102  # that is importing

    def get_code(self, name: str) -> CodeType:
        """Return a module's code."""
        _, begin, size = self._modules[name]
        # Not held open: the guard closes every file of the one that it was forked from.
        number = os.open(self._packed, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(number, size, self._begin + begin)
        finally:
            os.close(number)
        code: CodeType = marshal.loads(data)  # noqa: S302  # of a checked file
        return code

    def get_data(self, path: str) -> bytes:
        """Return a file of the bundle; raise OSError."""
        data: bytes = self._archive.get_data(path)
        return data


def take_over(
    path: str,
    hashed: Optional[Callable[[bytes], str]] = None,
    digest_of: Optional[Callable[[str], Optional[str]]] = None,
    keep: Optional[Callable[[str, bytes], None]] = None,
) -> None:
    """Import what is in the bundle at ``path`` from its bytecode, from now on.

    Without bytecode for this Python in the bundle: ``hashed`` returns a digest, ``digest_of`` that
    of a file that nobody else can have written, or None; ``keep`` writes one. Where they are not
    given, Python's own importer goes on.
    """
    import zipimport

    path = packed = os.path.abspath(path)
    found = _index(path)
    if found is None and hashed and digest_of and keep:
        packed = _beside(path, hashed, digest_of, keep)
        found = _index(packed) if packed else None
    if found is not None:
        importer = Importer(path, packed, *found, zipimport.zipimporter(path))
        sys.meta_path.insert(0, importer)


def _index(path: str) -> Optional[tuple[bytes, int]]:
    """Return the index of a file of bytecode, and where that ends; None: for another Python."""
    with open(path, "rb") as file:
        if file.readline(100) != SHEBANG:
            return None
        words = file.readline(100).split()
        if words[:-1] != [b"#", b"bytecode", MAGIC.encode()]:
            return None
        return file.read(int(words[-1])), file.tell()


def _beside(
    path: str,
    hashed: Callable[[bytes], str],
    digest_of: Callable[[str], Optional[str]],
    keep: Callable[[str, bytes], None],
) -> str:
    """Return the file of bytecode that was made on this host: PATH.MAGIC.DIGEST.

    It is made where there is none, or a damaged one; "" where it cannot be kept.
    """
    folder, name = os.path.split(f"{path}.{MAGIC}.")
    for other in os.listdir(folder):
        if other.startswith(name):
            kept = os.path.join(folder, other)
            if digest_of(kept) == other[len(name) :]:
                return kept
    import zipfile

    with zipfile.ZipFile(path) as bundle:
        names = [name for name in bundle.namelist() if name.endswith(".py")]
        packed = pack({name: bundle.read(name) for name in names if name != "__main__.py"})
    kept = os.path.join(folder, name + hashed(packed))
    try:
        keep(kept, packed)
    except OSError:
        return ""
    return kept
