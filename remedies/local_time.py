"""How times are shown to people, in every output."""

from __future__ import annotations

from datetime import datetime, timezone


def local(moment: str) -> str:
    """Return a time as JSON and the journal hold it as this place's clocks show it.

    What is no such time (a saved file may say anything) comes back as it is.
    """
    try:
        utc = datetime.fromisoformat(moment[:-1])
        if f"{utc.isoformat()}Z" != moment:  # another form of ISO 8601
            return moment
        return utc.replace(tzinfo=timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    except (ValueError, OverflowError, OSError):
        return moment
