"""How long a host stays half-written after its writer was killed, at every point of an apply.

Run as ``python tests/bench/guard_speed.py``; :mod:`figures` says how figures are kept. The clock
runs from the writer's death to the end of its guard, so other work on the machine stretches it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import figures

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "kernel"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "hosts"))

from faulty import WORLDS, Fault, standing

LIMIT = 2.0
"""Seconds, of the promise that between before and after lasts only until the guard acts."""
_names: list[str] = []


def netns(label: str) -> str:
    """Make a network namespace and return its name."""
    name = f"rt-{os.getpid()}-{label}{len(_names)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    _names.append(name)
    return name


def longest(backend: str, fix: str, folder: Path) -> tuple[float, int]:
    """Return the longest time until a guard was done, in seconds, and the number of points."""
    with standing(backend, fix, netns, folder) as host:
        points = host.run("apply", "--yes").points
        host.run("rollback", "--yes")
        before, took = host.dump(), 0.0
        for at in range(len(points) - 1):
            host.run("apply", "--yes", fault=Fault(at))
            begun = time.monotonic()
            host.unguarded()
            took = max(took, time.monotonic() - begun)
            if host.dump() != before:
                raise RuntimeError(f"{fix} by {backend}, killed at {points[at]}: not as before")
    return took, len(points) - 1


def main() -> None:
    """Print the longest time of each world."""
    part = figures.Part("guard")
    try:
        for backend, fix in WORLDS:
            with tempfile.TemporaryDirectory() as folder:
                took, points = longest(backend, fix, Path(folder))
            part.row(f"{fix} by {backend}, killed at each of {points} points", took, "s", LIMIT)
    finally:
        for name in _names:
            subprocess.run(["ip", "netns", "del", name], check=True)


if __name__ == "__main__":
    main()
