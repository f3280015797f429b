"""What the ``json`` format wrote, read again: its kind and its version are ours."""

from __future__ import annotations

from typing import Any

from remedies import codec
from remedies.errors import InputError
from remedies.report.record import FORMAT_VERSION


def plain(text: str, where: str) -> dict[str, Any]:
    """Return a report's plain values. Raises InputError where the text is no report of ours."""
    values = codec.loads(text, where)
    if not isinstance(values, dict) or values.get("kind") != "report":
        raise InputError(f"{where}: not a report", "make it with 'remedy report -o json:FILE'")
    version = str(values.get("format_version"))
    if version.partition(".")[0] != FORMAT_VERSION.partition(".")[0]:
        raise InputError(f"{where}: format {version!r} is not known", "use its version of remedy")
    return values
