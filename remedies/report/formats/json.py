"""The whole record as one JSON document; ``report.schema.json`` beside is its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator

from remedies import codec
from remedies.report.record import FORMAT_VERSION, Report

HELP = "the whole record, versioned, with a JSON Schema"


def render(report: Report) -> Iterator[str]:
    """Yield the document, indented."""
    plain = {"format_version": FORMAT_VERSION, "kind": "report", **codec.encode(report)}
    yield from json.JSONEncoder(indent=2).iterencode(plain)
    yield "\n"
