"""The container image, as 'make image' builds it; what it stands on is fetched once."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType

from debian import CACHE, mirror
from package import PROJECT

KUBERNETES = PROJECT / "monitoring/kubernetes"


def script() -> ModuleType:
    """Return the program that builds it."""
    spec = importlib.util.spec_from_file_location("image", KUBERNETES / "image.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(folder: Path, package: Path) -> Path:
    """Write the image of a package into ``folder`` and return it."""
    image = script()
    control = (PROJECT / "debian/control").read_bytes()
    system = CACHE / f"image-{image.SUITE}-{hashlib.sha256(control).hexdigest()[:12]}.tar"
    CACHE.mkdir(mode=0o700, exist_ok=True)
    with system.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not system.exists():
            part = system.with_suffix(".part.tar")
            image.base(part, package, mirror())
            part.rename(system)
    image.build(folder, package, system)
    return folder
