"""Reports with a hostile text in every place that holds one, found by the types of the record.

A field that is added to the record is poisoned from then on. What
:func:`remedies.report.import_host` refuses from a host cannot be hostile: such a field keeps its
value.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable
from functools import cache
from typing import Any, Union

import report_samples as samples

from remedies import codec
from remedies.errors import InputError
from remedies.report.import_host import admit
from remedies.report.record import FORMAT_VERSION, Observation, Report
from remedies.values import fields, replace

Choose = Callable[[str, str], str]
"""From where a text stands (``hosts.judgements.subject``) and what it is, to what it shall be."""

OURS = frozenset({"made"})
"""What the tool writes itself whatever is on the host, besides what :func:`closed` finds."""
ZERO = {int: 1, float: 1.0, bool: True}
VALUES = (
    "{{7*7}}",
    "{%x%}",
    "<script>document.title='owned'</script>",
    "<img src=x onerror=alert(1)>",
    "</title></style></script><svg/onload=alert(1)>",
    "<!--",
    "\"'`$(touch CANARY)`touch CANARY`",
    "' onmouseover='alert(1)",
    "a\nEND-OF-REMEDY\ntouch CANARY\n# x\n- y\n> z",
    "=cmd|'/c calc'!A1",
    "@SUM(A1)",
    "-2+3",
    "".join(map(chr, range(1, 0x20))) + "\x7f\x85",
    "\u202e\u2066\u200b\u2028\ufeff",
    "a\0b",
    "\ud800",
    "]]><x/>",
    "&lt;b&gt;&#60;",
    "../../etc/passwd",
    "%h%n%(x)s{0}",
    "[a](javascript:alert(1)) ![b](http://x.invalid/y) <http://x.invalid> **c**",
    "# a | b | c\r\n---\r\n```\r\n~~~\r\n    d\r\n1. e",
    "|",
    "\\",
    "``",
    "x" * 4000,
)


_hints = cache(typing.get_type_hints)


def walked(hint: Any, value: Any, choose: Choose, path: str = "") -> Any:
    """Return ``value`` of type ``hint`` with each text chosen anew; what is empty holds one."""
    options = typing.get_args(hint)
    if hint is str:
        return choose(path, value or (samples.TIME if path.endswith(".time") else ""))
    if hint in ZERO:
        return ZERO[hint] if value is None else value
    names = fields(hint)
    if names is not None:
        made = {
            name: walked(kind, getattr(value, name, None), choose, f"{path}.{name}".lstrip("."))
            for name, kind in _hints(hint).items()
            if name in names
        }
        return typing.cast(Any, hint)(**made)
    if typing.get_origin(hint) is typing.Literal:  # the decoder takes no other word
        return options[0] if value is None else value
    if typing.get_origin(hint) is Union:
        return walked(options[0], value, choose, path)
    if typing.get_origin(hint) is tuple:
        items = tuple(walked(options[0], item, choose, path) for item in value or (None,))
        # A picture is drawn from what a detector says: that stays beside.
        return (*value, *items) if options[0] is Observation and value else items
    if typing.get_origin(hint) is dict:
        keys = (*(value or {}), choose(f"{path}.key", "key"))
        return {key: choose(path, (value or {}).get(key, "")) for key in keys}
    raise TypeError(f"{path}: nobody has said how {hint} is made hostile")


@cache
def closed() -> frozenset[str]:
    """Return where a host may not write what it likes: there a report of it is refused."""
    every: set[str] = set()

    def seen(path: str, old: str) -> str:
        every.add(path)
        return old

    walked(Report, samples.full(), seen)
    return frozenset(OURS | {path for path in every if _refused(path)})


def _refused(path: str) -> bool:
    report = walked(Report, samples.full(), lambda at, old: "<b>" if at == path else old)
    plain = {"format_version": FORMAT_VERSION, "kind": "report", **codec.encode(report)}
    try:
        admit(json.dumps(plain), "edge-07", "edge-07")
    except InputError:
        return True
    return False


def poisoned(value: str, *, alone: bool = False) -> Report:
    """Return a report of one host with ``value`` wherever a host or a person may write.

    ``alone``: of one host that is in no rollout, and the texts that were there stand behind.
    """

    def choose(path: str, old: str) -> str:
        if path in closed():
            return old
        return f"{value} {old}" if alone and old else value

    report = walked(Report, samples.full(), choose)
    assert isinstance(report, Report)
    if alone:
        hosts = tuple(replace(host, rollout=None) for host in report.hosts)
        report = replace(report, hosts=hosts, unreached=(), run="")
    return report
