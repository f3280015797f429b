"""The JSON Schema of the ``json`` format, derived from the record itself.

The package ships it as ``report.schema.json``; a test keeps the two equal.
"""

from __future__ import annotations

import types
import typing
from typing import Any

from remedies.report.record import FORMAT_VERSION, Report
from remedies.values import fields

Plain = dict[str, Any]

_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean"}


def schema() -> Plain:
    """Return the schema (draft 2020-12). A minor version may add keys: none is forbidden."""
    definitions: Plain = {}
    report = _object(Report, definitions)
    head = {
        "format_version": {"type": "string", "pattern": r"^1\.\d+$", "default": FORMAT_VERSION},
        "kind": {"const": "report"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An audit report of remedy",
        "type": "object",
        "properties": {**head, **report["properties"]},
        "required": [*head, *report["required"]],
        "$defs": dict(sorted(definitions.items())),
    }


def _object(kind: type[Any], definitions: Plain) -> Plain:
    hints = typing.get_type_hints(kind)
    properties = {name: _of(hints[name], definitions) for name in fields(kind) or ()}
    described = (kind.__doc__ or "").strip().partition("\n")[0]
    return {
        "type": "object",
        "description": described,
        "properties": properties,
        "required": list(properties),
    }


def _of(hint: Any, definitions: Plain) -> Plain:
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    if isinstance(hint, type) and fields(hint) is not None:
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}
            definitions[hint.__name__] = _object(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return {"enum": list(options)}
    if origin is tuple:
        return {"type": "array", "items": _of(options[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(options[1], definitions)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_of(options[0], definitions), {"type": "null"}]}
    raise TypeError(f"{hint} has no JSON Schema")
