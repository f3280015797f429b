"""Print the files of the host side: what must run on Python 3.9 with the standard library alone."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CONTROL = (
    "remedies/lab/",
    "remedies/cli/lab.py",
    "remedies/cli/policy.py",
    "remedies/cli/completion.py",
    "remedies/policy/",
)
HOST_IN_CONTROL = (
    "remedies/policy/__init__.py",
    "remedies/policy/cache.py",
    "remedies/policy/waivers.py",
    "remedies/policy/sources.py",
)
"""What of ``policy/`` a compiled policy needs."""


def host_side() -> list[Path]:
    """Return the files, sorted."""
    found = []
    for path in sorted(ROOT.glob("remedies/**/*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name in HOST_IN_CONTROL or not name.startswith(CONTROL):
            found.append(path)
    return found


if __name__ == "__main__":
    print("\n".join(str(path.relative_to(ROOT)) for path in host_side()))
