"""The JSON that the command line promises, as data; and what of a document departs from it.

A shape is a type, a compiled pattern for text, a set of values, a tuple of shapes of which one
must fit, a list of the one shape of every item, or a dictionary: each of its keys must be there.
More keys may be: a minor version adds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
ID = re.compile(r"[0-9a-f]{16}")
TXN = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]+")
TEXT = (str, None)
VERDICT = {"exposed", "active", "proven", "mitigated", "unknown"}
OUTCOME = {"applied", "nothing", "rolled-back", "incomplete", "stale", "reverted", "refused"}

EVIDENCE = {"source": str, "key": str, "value": str, "note": str}
FINDING = {
    "id": ID,
    "condition": str,
    "subject": str,
    "verdict": VERDICT,
    "severity": str,
    "message": str,
    "mitigated_by": TEXT,
    "waived": TEXT,
    "evidence": [EVIDENCE],
}
CHANGE = {
    "fix": str,
    "finding": (ID, None),
    "resource": str,
    "action": {"create", "update", "remove"},
    "before": TEXT,
    "after": TEXT,
    "diff": str,
    "reversibility": {"exact", "lossy", "none"},
    "risk": str,
    "impact": str,
    "effects": [str],
}
REFUSED = {"fix": str, "finding": (ID, None), "reason": str}
TOOL = {"name": {"remedy"}, "version": str}
HOST = {"name": str, "machine_id": str, "kernel": str, "netns": str, "boot_id": str}
POLICY = {"names": [str], "digest": str, "source": str}
LOOKED = {
    "tool": TOOL,
    "host": HOST,
    "time": TIME,
    "policy": POLICY,
    "findings": [FINDING],
    "unknown": [{"condition": str, "reason": str}],
}
STANDING = {
    "tool": TOOL,
    "host": HOST,
    "time": TIME,
    "policy": POLICY,
    "in_force": [
        {
            "transaction": TXN,
            "fix": str,
            "resource": str,
            "state": {"ours", "drifted", "gone", "unknown"},
            "counters": dict,
        }
    ],
    "unowned": [str],
    "unfinished": [TXN],
    "pending_confirm": ({"transaction": TXN, "until": TIME, "seconds_left": float}, None),
    "boot": list,
}
SHAPES: dict[str, dict[str, Any]] = {
    "scan": LOOKED,
    "plan": {
        **LOOKED,
        "plan_id": ID,
        "kept": [{"fix": str, "resources": [str], "policy": [str], "transaction": TXN}],
        "left": [{"finding": ID, "condition": str, "subject": str, "mode": str, "policies": [str]}],
        "lost_at_boot": [str],
        "settled": [str],
        "made_from": dict,
        "changes": [CHANGE],
        "advice": [{"fix": str, "finding": ID, "title": str, "text": str}],
        "refused": [REFUSED],
    },
    "apply": {
        **LOOKED,
        "transaction": (TXN, None),
        "outcome": OUTCOME,
        "changes": [CHANGE],
        "refused": [REFUSED],
        "pending_confirm_until": (TIME, None),
        "verified": [
            {
                "finding": ID,
                "condition": str,
                "before": VERDICT,
                "after": {*VERDICT, "absent", "still", "not-observable"},
            }
        ],
    },
    "rollback": {
        "transactions": [TXN],
        "outcome": OUTCOME,
        "changes": [CHANGE],
        "drift": [str],
    },
    "confirm": {"transaction": (TXN, None), "outcome": {"confirmed", "reverted", "nothing"}},
    "status": STANDING,
    "verify": {**LOOKED, **STANDING},
    "history": {
        "transactions": [
            {
                "transaction": TXN,
                "time": TIME,
                "kind": {"apply", "rollback"},
                "outcome": str,
                "fixes": [str],
                "undoes": [TXN],
                "user": str,
                "command": str,
            }
        ],
        "older": bool,
    },
    "transaction": {
        "transaction": TXN,
        "time": TIME,
        "outcome": str,
        "begin": {"kind": str, "changes": [CHANGE], "user": str, "command": str},
        "written": [int],
        "undone": [int],
        "stuck": [str],
    },
    "trace": {"seconds": float, "heard": dict, "proven": dict, "lost": int},
    "audit": {
        "journal": str,
        "records": int,
        "head": str,
        "anchored": bool,
        "problems": [str],
    },
    "list": {
        "conditions": [{"id": str, "title": str, "severity": str}],
        "fixes": [{"id": str, "title": str, "risk": str, "answers": [str]}],
    },
    "condition": {"id": str, "title": str, "text": str},
    "fix": {"id": str, "title": str, "text": str},
    "doctor": {
        "checks": [
            {"name": str, "state": {"yes", "no", "optional"}, "detail": str, "hint": str},
        ]
    },
    "policy": {"policy": {"names": [str], "digest": str, "rules": dict}},
    "policy-check": {"policies": [{"policy": str, "valid": bool, "problems": list}]},
    "lab-list": {"scenarios": dict, "worlds": list},
    "bundle": {"tool": TOOL, "file": str, "bytes": int, "sha256": str},
    "export": {"files": [str]},
}
"""By ``kind``; every document also has ``format_version``."""


def departures(document: Any) -> list[str]:
    """Return what of a document is not as promised, a line each."""
    kind = document.get("kind")
    if kind not in SHAPES:
        return [f"kind: {kind!r}"]
    version = "2.0" if kind == "plan" else "1.0"
    return list(_departures(document, {"format_version": {version}, **SHAPES[kind]}, kind))


def _departures(value: Any, shape: Any, where: str) -> Iterator[str]:
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            yield f"{where}: {value!r} is no object"
            return
        for key, inner in shape.items():
            if key in value:
                yield from _departures(value[key], inner, f"{where}.{key}")
            else:
                yield f"{where}.{key} is missing"
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{where}: {value!r} is no list"
            return
        for number, item in enumerate(value):
            yield from _departures(item, shape[0], f"{where}[{number}]")
    elif isinstance(shape, tuple):
        found = [list(_departures(value, one, where)) for one in shape]
        if all(found):
            yield found[0][0]
    elif not _is(value, shape):
        yield f"{where}: {value!r} is not {shape}"


def _is(value: Any, shape: Any) -> bool:
    if isinstance(shape, re.Pattern):
        return isinstance(value, str) and shape.fullmatch(value) is not None
    if isinstance(shape, (set, frozenset)):
        return value in shape
    if shape is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if shape is int:
        return type(value) is int
    return value is None if shape is None else isinstance(value, shape)
