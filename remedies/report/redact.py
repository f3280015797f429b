"""What never leaves the host: secrets and home paths, wherever in a record they stand.

Command lines, comments, process arguments and rule comments come from anywhere. Every string of a
record goes through :func:`fit` once, before any format sees it. What looks like a secret is taken
out with the rest of its argument: too much hidden costs little, too little costs the secret.
"""

from __future__ import annotations

import operator
import re
from typing import Any, TypeVar, cast

from remedies.printable import clean
from remedies.values import fields as fields_of
from remedies.values import replace

T = TypeVar("T")

HIDDEN = "[redacted]"
HOME = "~/[path]"

_NAME = (
    r"[\w.-]*(?:pass(?:word|wd|phrase|code)|secret|token|api[-_]?key|access[-_]?key|"
    r"private[-_]?key|credential|authori[sz]ation|cookie|bearer|signature)[\w.-]*"
)
_ARGUMENT = r"(?:\"[^\"\n]*\"|'[^'\n]*'|(?:(?!\s--?[A-Za-z])[^\n])+)"
"""A value: quoted, or all up to the next option (an argument may hold blanks)."""

_PATTERNS = (
    re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S
    ),
    re.compile(r"(?<=://)[^/\s@]+(?=@)"),
    re.compile(rf"(?i)(?<![\w-])((?:--?)?{_NAME}[\"']?\s*[=:]\s*){_ARGUMENT}"),
    re.compile(rf"(?i)(?<!\w)(--?{_NAME}\s+)(?!-){_ARGUMENT}"),
    re.compile(r"(?i)\b((?:bearer|basic)\s+)[\w.~+/=-]{8,}"),
    re.compile(r"(?i)\b((?:sshpass|mysql\w*|mariadb[\w-]*)\b[^\n]*?\s-p\s*)[^\s][^\n]*"),
    re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-|sk-|hf_)[\w-]{16,}"),
    re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),
)
_HOMES = re.compile(r"(?:/(?:home|Users)/[^\s/:'\"]+|/root(?=[/\s'\":]|$))[^\s'\":]*")
_HINT = re.compile(
    r"(?i)pass|secret|token|key|credential|authori|cookie|bearer|basic|signature|://|eyJ|AKIA|ASIA"
    r"|gh._|github_pat|glpat|xox|sk-|hf_|mysql|mariadb|/home/|/users/|/root"
)
"""A quick look that spares nearly every string the patterns."""


def redact(text: str) -> str:
    """Return ``text`` without what looks like a secret and without paths below a home."""
    if not _HINT.search(text):
        return text
    for pattern in _PATTERNS:
        text = pattern.sub(lambda m: (m.group(1) if m.re.groups else "") + HIDDEN, text)
    return _HOMES.sub(HOME, text)


def fit(value: T) -> T:
    """Return a record with every string in it redacted and free of control characters."""
    return cast(T, _fit(value, {}))


def _fit(value: Any, seen: dict[str, str]) -> Any:
    """Return ``value`` itself where nothing in it had to change, which is nearly always."""
    if isinstance(value, str):
        known = seen.get(value)
        if known is None:
            known = seen[value] = redact(clean(value))
        return value if known == value else known
    if not value or value is True:
        return value
    if isinstance(value, tuple):
        items = [_fit(item, seen) for item in value]
        return value if all(map(operator.is_, items, value)) else tuple(items)
    if isinstance(value, dict):
        return {_fit(key, seen): _fit(item, seen) for key, item in value.items()}
    if fields_of(type(value)) is None:
        return value
    changed = {}
    for name, old in vars(value).items():
        if not old or (type(old) is str and seen.get(old) == old):
            continue  # the short way of nearly every field
        new = _fit(old, seen)
        if new is not old:
            changed[name] = new
    return replace(value, **changed) if changed else value
