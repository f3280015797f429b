"""Which transaction a person means: by its id, by the beginning of one, or as ``last``."""

from __future__ import annotations

from typing import Optional

from remedies.errors import UsageError
from remedies.operations import session

LAST = "last"
"""The newest transaction, whatever became of it."""
_SHOWN = 5
"""Of the transactions that share a beginning."""


def transaction_id(folder: str, text: Optional[str]) -> Optional[str]:
    """Return the id that ``text`` means in the journal in ``folder``; ``text`` if it means none.

    Raises UsageError where several transactions begin like this.
    """
    if text == LAST:
        newest = next(session.newest(folder), None)
        return newest.id if newest else text
    if not text or next(session.newest(folder, text), None):
        return text
    found = [entry.id for entry in session.newest(folder) if entry.id.startswith(text)]
    if len(found) > 1:
        more = ", ..." if len(found) > _SHOWN else ""
        raise UsageError(
            f"{len(found)} transactions begin with {text!r}: {', '.join(found[:_SHOWN])}{more}",
            "give more of the id",
        )
    return found[0] if found else text
