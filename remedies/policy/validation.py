"""Validates one document's types and words, in the words of the person who wrote it."""

from __future__ import annotations

import copy
import difflib
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from remedies.policy import schema
from remedies.policy.document import Document, Path, PolicyProblem, shown

_WANTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "date_type": "a date, YYYY-MM-DD",
    "value_error": "a date, YYYY-MM-DD",
    "invalid-json-value": "text, a number, true, false, or a list or mapping of these",
    "string_too_short": "text that is not empty",
    "too_short": "a list that is not empty",
    "string_pattern_mismatch": "letters, digits, '.', '_' and '-' only, 64 at most",
}
_KINDS: dict[type[Any], str] = {
    type(None): "nothing",
    dict: "a mapping",
    list: "a list",
    bool: "true or false",
}


def validate(document: Document) -> tuple[dict[str, Any], list[PolicyProblem]]:
    """Return the document's values, normalised, without those that are wrong; and what is wrong.

    Keys that the file does not have are not in the result: they are what it extends says.
    """
    values, details = _validated(document.data)
    if not details:
        return values, []
    right = copy.deepcopy(document.data)
    for detail in details:
        _remove(right, _place(document.data, detail["loc"])[0], whole=_rest_is_wrong(detail))
    # Empty where what is left is wrong in its turn: a mapping that lacks what was taken out.
    values, _ = _validated(right)
    return values, [_problem(document, detail) for detail in details]


def _validated(data: dict[str, Any]) -> tuple[dict[str, Any], list[ErrorDetails]]:
    try:
        source = schema.PolicySource.model_validate(data)
    except ValidationError as error:
        return {}, error.errors(include_url=False)
    return source.model_dump(by_alias=True, exclude_unset=True), []


def _rest_is_wrong(detail: ErrorDetails) -> bool:
    """Tell whether what holds the wrong part can not do without it: it can without another key."""
    return detail["type"] != "extra_forbidden"


def _remove(data: Any, path: Path, *, whole: bool) -> None:
    """Take out a key of a mapping; of a list, with ``whole``, the mapping's key that holds it."""
    *above, last = path or (None,)
    for part in above:
        if isinstance(data, dict) and part not in data:  # what holds it was wrong, too
            return
        if whole and isinstance(data[part], list):
            last = part
            break
        data = data[part]
    data.pop(last, None)


def _problem(document: Document, detail: ErrorDetails) -> PolicyProblem:
    """Return pydantic's finding with the document's own path and line."""
    path, around = _place(document.data, detail["loc"])
    kind, value = detail["type"], detail["input"]
    key = str(detail["loc"][-1])
    if kind == "missing":
        return document.problem((*path, key), "is missing", f"add '{key}:'")
    if kind == "extra_forbidden":
        known = _keys(detail["loc"])
        return document.problem(path, "unknown key", _suggest(key, known, "known keys"))
    if kind == "literal_error":
        words = detail["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        hint = _suggest(str(value), words, "one of")
        return document.problem(path, f"{_found(value)} is not a valid value", hint)
    if (kind in ("string_type", "date_type") and value is None) or around is None:
        return document.problem(path, "has no value", "give it one or remove the key")
    wanted = _WANTED.get(kind, detail["msg"])
    return document.problem(path, f"expected {wanted}, found {_found(value)}", "correct the value")


def _place(data: Any, location: tuple[int | str, ...]) -> tuple[Path, Any]:
    """Return the part of pydantic's location that is in the document, and the value there.

    The rest names branches of unions, and keys that are missing.
    """
    path: Path = ()
    for part in location:
        if isinstance(data, dict) and part in data:
            data = data[str(part)]
        elif isinstance(data, list) and isinstance(part, int):
            data = data[part]
        else:
            continue
        path = (*path, part)
    return path, data


def _found(value: object) -> str:
    """Return a value as an error message shows it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _KINDS.get(type(value)) or shown(repr(value) if isinstance(value, str) else str(value))


def _keys(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the mapping around an unknown key may have."""
    model: type[BaseModel] = schema.PolicySource
    if location[0] == "rules" and len(location) > 2:
        model = schema.Every if "every" in location[:-1] else schema.RuleSource
    elif location[0] == "site" and len(location) > 1:
        model = schema.SetSource if "set" in location[:-1] else schema.SiteSource
    elif len(location) > 1:
        model = schema.RequireSource if location[0] == "require" else schema.WaiverSource
    return [field.alias or name for name, field in model.model_fields.items()]


def _suggest(word: str, known: list[str], label: str) -> str:
    """Return "did you mean" where something is near, else everything there is."""
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"{label}: {', '.join(known) or 'none'}"
