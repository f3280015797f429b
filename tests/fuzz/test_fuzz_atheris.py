"""The coverage-guided fuzzer over every format, bounded; longer runs are a person's to start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("atheris_all.py")
RUNS = 5_000
"""About three seconds. Counted, with one seed for both generators: a red run can be had again."""


def test_many_runs_find_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python")
    done = subprocess.run(
        [sys.executable, str(HARNESS), f"-runs={RUNS}", "-max_len=4096", "-seed=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": "0", "TMPDIR": str(tmp_path)},  # it does not clean up
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert not list(tmp_path.glob("crash-*"))
    assert "Done" in done.stderr
