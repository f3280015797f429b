"""What of a JSON document departs from the schema that the package ships for its kind."""

from __future__ import annotations

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from remedies.cli import schema

PROMISED = set(schema.kinds())


@cache
def _validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(schema.schema(kind))


def departures(document: Any) -> list[str]:
    """Return what of a document is not as promised, a line each."""
    kind = str(document.get("kind"))
    kind = "fleet" if kind.startswith("fleet-") else kind
    if kind not in PROMISED:
        return [f"kind: {kind!r}"]
    errors = sorted(_validator(kind).iter_errors(document), key=lambda error: error.json_path)
    return [f"{kind}{error.json_path[1:]}: {error.message}" for error in errors]
