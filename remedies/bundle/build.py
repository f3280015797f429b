"""Builds the single-file host tool: a zip that Python runs, with nothing to install beside it.

It holds the host side, the binding of libnftables, the compiled shipped policies and bytecode for
the Python that built it (:mod:`remedies.bundle.archive`). Files are stored, sorted and dated 1980,
so the same sources and the same Python make the same bytes; SSH compresses on the way.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
from typing import Optional

import remedies
from remedies import catalogue, codec, policy, shipped
from remedies.bundle import archive, contents
from remedies.errors import RemedyError
from remedies.libraries import how_to_add

_NAME = re.compile(r"[0-9a-f]{64}\.pyz")
"""Of a kept bundle: its digest."""
_PACKAGE = os.path.dirname(os.path.abspath(remedies.__file__))


def digest(data: bytes) -> str:
    """Return the digest (hex) that a bundle goes by on hosts, as ``start/launch.py`` checks it."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def build() -> bytes:
    """Return the bundle. Raises RemedyError where the binding or the policies are missing."""
    files = {f"remedies/{name}": _read(name) for name in contents.bundled(_PACKAGE)}
    files.update(binding())
    files["__main__.py"] = start_text("main").encode()
    files.update(_policies())
    for folder in catalogue.FOLDERS:
        files[f"remedies/{folder}/{catalogue.INDEX}"] = catalogue.index(folder)
    return archive.zipped(files)


def cached(folder: str, key: str = "") -> tuple[str, str]:
    """Return path and digest of a bundle kept in ``folder``, which is made if absent.

    It is built again when a file of the package has changed: ``key`` is what
    :func:`current_key` has returned. Raises RemedyError.
    """
    if not os.path.isdir(folder):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    shelf = os.path.join(folder, key or current_key())
    os.makedirs(shelf, mode=0o700, exist_ok=True)
    found = _on(shelf)
    if found is None:
        with open(os.path.join(shelf, "lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # Ansible asks for many hosts at once: one builds
            found = _on(shelf) or _shelved(build(), shelf)
    return found


def kept(path: str) -> bytes:
    """Return the bundle at ``path``, one of :func:`cached`. Raises RemedyError if it is damaged."""
    data = _bytes(path)
    if os.path.basename(path) != f"{digest(data)}.pyz":
        raise RemedyError(f"{path} is damaged", "remove it; it is built again")
    return data


def _on(shelf: str) -> Optional[tuple[str, str]]:
    for name in os.listdir(shelf):
        if _NAME.fullmatch(name):
            return os.path.join(shelf, name), name[: -len(".pyz")]
    return None


def _shelved(data: bytes, shelf: str) -> tuple[str, str]:
    path = os.path.join(shelf, f"{digest(data)}.pyz")
    draft = f"{path}.{os.getpid()}"
    with open(draft, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # or a power loss could leave the name without the bytes
    os.replace(draft, path)
    return path, digest(data)


def start_text(name: str) -> str:
    """Return the text of ``main`` or ``launch`` in ``start/``, behind that of ``check``."""
    parts = (_read(f"start/{part}.py").decode() for part in ("check", name))
    return "\n".join(parts)


def current_key() -> str:
    """Return what changes with the files that go in: their names, sizes and times."""
    policies = [
        [name, os.stat(path).st_mtime_ns] for name, path in sorted(shipped.policies().items())
    ]
    magic = importlib.util.MAGIC_NUMBER.hex()
    plain = json.dumps([remedies.__version__, magic, contents.stamps(_PACKAGE), policies, _PACKAGE])
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def _read(name: str) -> bytes:
    """Return a file of the package as the import system reads it."""
    return _bytes(os.path.join(_PACKAGE, name))


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def binding() -> dict[str, bytes]:
    """Return the files of the Python module ``nftables``: one, or Debian's package of two.

    Raises RemedyError where it is not installed.
    """
    found = importlib.util.find_spec("nftables")
    if found is None or found.origin is None:
        raise RemedyError(
            "the Python module 'nftables' is not installed, and the bundle carries it",
            how_to_add("nftables"),
        )
    folder, name = os.path.split(found.origin)
    names = ["nftables.py"] if name == "nftables.py" else ["__init__.py", "nftables.py"]
    inside = "" if name == "nftables.py" else "nftables/"
    files = {}
    for name in names:
        files[inside + name] = _bytes(os.path.join(folder, name))
    return files


def _policies() -> dict[str, bytes]:
    """Return every shipped policy, compiled."""
    return {
        f"remedies/shipped_data/compiled/{name}.json": json.dumps(
            {"tool": remedies.__version__, "policy": codec.encode(policy.load((name,)))}
        ).encode()
        for name in shipped.policies()
    }
