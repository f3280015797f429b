"""nft syntax from canonical JSON: what a diff shows of a table of ours.

For people alone: nft is fed JSON (:mod:`remedies.rules.restore_script`). Covers what our fixes use;
anything else that somebody put into the table is shown as its JSON, so a diff never hides it.
Names of priorities are those of nft(8), "PRIORITY".
"""

from __future__ import annotations

import json
from typing import Any

from remedies import printable
from remedies.errors import InputError

_PRIORITIES = (
    ("raw", -300, ""),
    ("mangle", -150, ""),
    ("dstnat", -100, "prerouting"),
    ("filter", 0, ""),
    ("security", 50, ""),
    ("srcnat", 100, "postrouting"),
)
"""Name, value, and the only hook it exists in (nft's src/rule.c, std_prio_family_hook_compat)."""

_REACH = 10  # how far from a named priority nft still writes "name + offset"
_UNQUALIFIED = frozenset({"mark", "iif", "iifname", "iiftype", "oif", "oifname", "oiftype"})
_QUOTED = frozenset({"iif", "iifname", "oif", "oifname"})


def nft_text(state: str | None) -> str:
    """Return the canonical state of a table as ``nft -s list table`` prints it; empty for None.

    Raises InputError for a text that is no such state.
    """
    if state is None:
        return ""
    try:
        return _text(state)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise InputError(f"not the state of an nft table: {state[:80]!r}") from error


def _text(state: str) -> str:
    objects = [json.loads(line) for line in state.splitlines()]
    table: dict[str, Any] = next((item["table"] for item in objects if "table" in item), {})
    out = [f"table {table['family']} {table['name']} {{"]
    if "flags" in table:
        out.append(f"\tflags {table['flags']}\n")
    parts = [
        _chain(item["chain"], [o["rule"] for o in objects if "rule" in o])
        for item in objects
        if "chain" in item
    ]
    parts += [
        f"\t# {json.dumps(item, sort_keys=True)}"
        for item in objects
        if not item.keys() & {"table", "chain", "rule"}
    ]
    out.append("\n\n".join(parts))
    return "\n".join(line for line in (*out, "}") if line) + "\n"


def _chain(chain: dict[str, Any], rules: list[dict[str, Any]]) -> str:
    lines = [f"\tchain {_name(chain['name'])} {{"]
    if "hook" in chain:
        where = f"type {chain['type']} hook {chain['hook']}"
        lines.append(
            f"\t\t{where} priority {priority(chain['prio'], chain['hook'])}; "
            f"policy {chain['policy']};"
        )
    lines += [f"\t\t{_rule(rule)}" for rule in rules if rule["chain"] == chain["name"]]
    return "\n".join((*lines, "\t}"))


def _quoted(text: Any) -> str:
    """Return text on one line, in quotes: a newline in it must not look like a rule of its own."""
    return printable.clean(json.dumps(text, ensure_ascii=False))


def _name(text: Any) -> str:
    """Return a name as nft prints it, one that nft could not read back in quotes."""
    plain = isinstance(text, str) and text.isascii() and text.replace("_", "a").isalnum()
    return str(text) if plain else _quoted(text)


def priority(value: int, hook: str) -> str:
    """Return a base chain's priority by name where nft has one near: ``filter - 10``."""
    for name, known, only in _PRIORITIES:
        offset = value - known
        if abs(offset) <= _REACH and only in ("", hook):
            sign = "-" if offset < 0 else "+"
            return f"{name} {sign} {abs(offset)}" if offset else name
    return str(value)


def _rule(rule: dict[str, Any]) -> str:
    words = [_statement(expression) for expression in rule["expr"]]
    if "comment" in rule:
        words.append(f"comment {_quoted(rule['comment'])}")
    return " ".join(words)


def _statement(expression: dict[str, Any]) -> str:
    ((kind, body),) = expression.items()
    if kind == "match":
        op = "" if body["op"] in ("==", "in") else f"{body['op']} "
        if body["left"].get("payload", {}).get("field") == "flags":
            # Of flags nft means "any of these" where nothing is written.
            op = "" if body["op"] == "in" else f"{body['op']} "
            return f"{_left(body['left'])} {op}{_right(body['right'])}"
        quote = str(_meta_key(body["left"])) in _QUOTED
        return f"{_left(body['left'])} {op}{_right(body['right'], quote)}"
    if kind == "mangle":
        return f"{_left(body['key'])} set {_left(body['value'])}"
    if kind == "jump" and isinstance(body, dict):
        return f"jump {_name(body['target'])}"
    if body is None:
        return str(kind)
    return json.dumps(expression, sort_keys=True)


def _meta_key(left: dict[str, Any]) -> object:
    return left["meta"]["key"] if "meta" in left else None


def _left(left: dict[str, Any]) -> str:
    ((kind, body),) = left.items()
    if kind == "meta":
        return str(body["key"]) if body["key"] in _UNQUALIFIED else f"meta {body['key']}"
    if kind == "ct":
        return f"ct {body['key']}"
    if kind == "payload" and "field" in body:
        return f"{body['protocol']} {body['field']}"
    if kind == "fib":
        flags = body["flags"]  # nft 1.1 prints a single one without a list
        return f"fib {flags if isinstance(flags, str) else ' . '.join(flags)} {body['result']}"
    if kind == "tcp option" and "field" in body:
        return f"tcp option {body['name']} {body['field']}"
    if kind == "rt":
        return f"rt {body['key']}"
    return json.dumps(left, sort_keys=True)


def _right(right: Any, quote: bool = False) -> str:
    if isinstance(right, list):
        return ",".join(_right(value) for value in right)
    if isinstance(right, dict):
        if "set" in right:
            return f"{{ {', '.join(_right(value, quote) for value in right['set'])} }}"
        if "range" in right:
            return "-".join(_right(value) for value in right["range"])
        if "prefix" in right:
            return f"{right['prefix']['addr']}/{right['prefix']['len']}"
        return json.dumps(right, sort_keys=True)
    return _quoted(right) if quote else str(right)
