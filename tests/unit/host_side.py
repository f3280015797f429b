"""Print the files of the host side: what must run on Python 3.9 with the standard library alone."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from remedies.bundle import contents  # noqa: E402


def host_side() -> list[Path]:
    """Return the files, sorted: those that the bundle carries, and what starts it."""
    return [ROOT / "remedies" / name for name in contents.host_side(str(ROOT / "remedies"))]


if __name__ == "__main__":
    print("\n".join(str(path.relative_to(ROOT)) for path in host_side()))
