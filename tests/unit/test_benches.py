"""Benches start by themselves: nothing but the folder of a bench tells it where its modules are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_FOLDER = Path(__file__).resolve().parent.parent / "bench"
_LOADS = "import runpy, sys; runpy.run_path(sys.argv[1])"
"""Under another name than ``__main__``, so it measures nothing."""


@pytest.mark.parametrize("path", sorted(_FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_bench_finds_what_it_imports(path: Path) -> None:
    words = [sys.executable, "-c", _LOADS, path.name]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=_FOLDER)
    assert not done.returncode, done.stderr
