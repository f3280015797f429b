"""The coverage-guided fuzzer over every format, bounded; longer runs are a person's to start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("atheris_all.py")
SECONDS = 10


def test_ten_seconds_find_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python")
    done = subprocess.run(
        [sys.executable, str(HARNESS), f"-max_total_time={SECONDS}", "-max_len=4096", "-seed=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20 * SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert not list(tmp_path.glob("crash-*"))
    assert "Done" in done.stderr
