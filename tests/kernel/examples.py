"""How many random worlds a property test on the kernel makes."""

from __future__ import annotations

import os


def examples(few: int) -> int:
    """Return ``few``, or what ``REMEDY_EXAMPLES`` says: a person hunts further than a run does."""
    return int(os.environ.get("REMEDY_EXAMPLES", few))
