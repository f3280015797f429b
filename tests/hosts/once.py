"""What is made once for all processes of a test run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from remedies.bundle import build


def folder(factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all processes of this run share; it is gone with the run."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def cache(factory: pytest.TempPathFactory) -> Path:
    """Return what is ``XDG_CACHE_HOME`` to whoever may share what can be made again."""
    return folder(factory) / "cache"


def bundle(factory: pytest.TempPathFactory) -> Path:
    """Return the single-file tool, the same file to all: building it takes a second and more."""
    return Path(build.cached(str(cache(factory) / "remedy/fleet/bundle"))[0])
