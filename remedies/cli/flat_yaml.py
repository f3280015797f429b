"""The YAML that a configuration file of keys and values needs, where PyYAML is not installed.

A fleet host has nothing installed. What is read here means what PyYAML takes it for; whatever
might mean something else to it (anchors, nesting, dates, numbers in other bases) is refused.
"""

from __future__ import annotations

import re
from typing import Optional, Union

from remedies.errors import ConfigError

Scalar = Union[str, int, float, bool]
Value = Union[Scalar, list[Scalar], None]

_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_KEY = re.compile(r"([A-Za-z][A-Za-z_-]*) *:(?: +(.*))?")
_PLAIN = re.compile(r"[A-Za-z/.][\w./@+-]*|[0-9]+(?:ms|s|m|h)")
_QUOTED = re.compile(r"'([^'\\]*)'|\"([^\"\\]*)\"")
_COMMENT = re.compile(r"(?:^| )#.*$")


def read(text: str, name: str) -> dict[str, Value]:
    """Return the keys and values of a file called ``name``. Raises ConfigError."""
    found: dict[str, Value] = {}
    key: Optional[str] = None
    for number, line in enumerate(text.split("\n"), 1):
        line = _COMMENT.sub("", line).rstrip(" ")
        if not line or (line == "---" and not found):
            continue
        item = re.fullmatch(r" *- +(.+)", line)
        matched = _KEY.fullmatch(line)
        if item and key is not None and isinstance(found[key] or [], list):
            found[key] = [*_list(found[key]), _scalar(item[1], name, number)]
        elif matched and matched[1] not in found:
            key = matched[1]
            found[key] = _value(matched[2] or "", name, number)
            if found[key] is not None:
                key = None
        else:
            raise _refused(name, number, line)
    return found


def _list(value: Value) -> list[Scalar]:
    return value if isinstance(value, list) else []


def _value(text: str, name: str, number: int) -> Value:
    """Return a scalar, a list in brackets, or None where the value is yet to come."""
    text = text.strip()
    if not text:
        return None
    if not (text.startswith("[") and text.endswith("]")):
        return _scalar(text, name, number)
    parts = text[1:-1].split(",")
    return [_scalar(part.strip(), name, number) for part in parts if text[1:-1].strip()]


def _scalar(text: str, name: str, number: int) -> Scalar:
    quoted = _QUOTED.fullmatch(text)
    if quoted:
        return quoted[1] if quoted[1] is not None else quoted[2]
    if text in {form for word in _BOOLEANS for form in (word, word.title(), word.upper())}:
        return _BOOLEANS[text.lower()]
    if re.fullmatch(r"0|[1-9][0-9]*", text):
        return int(text)
    if re.fullmatch(r"[0-9]+\.[0-9]+", text):
        return float(text)
    if _PLAIN.fullmatch(text) and text.lower() not in ("null", ".nan", ".inf"):
        return text
    raise _refused(name, number, text)


def _refused(name: str, number: int, text: str) -> ConfigError:
    return ConfigError(
        f"{name}:{number}: {text[:60]!r} cannot be read without PyYAML",
        "write KEY: VALUE on a line, or KEY: [VALUE, VALUE]; quote what holds other characters",
    )
