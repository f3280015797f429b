"""Scans and plans as JSON; and a saved plan read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remedies import __version__, codec
from remedies.catalogue import fix_ids
from remedies.errors import InputError
from remedies.model import (
    FORMAT_VERSION,
    Advice,
    Change,
    Kept,
    Plan,
    PolicyRef,
    Refusal,
    Scan,
)
from remedies.values import dataclass


def scan_plain(scan: Scan, policy: PolicyRef, kind: str = "scan") -> dict[str, Any]:
    """Return a scan, and the policy it was judged by, as plain JSON values."""
    return {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "tool": {"name": "remedy", "version": __version__},
        "host": codec.encode(scan.host),
        "time": scan.time,
        "policy": codec.encode(policy),
        "findings": [{"id": f.id, **codec.encode(f)} for f in scan.findings],
        "unknown": codec.encode(scan.unknown),
    }


def plan_plain(plan: Plan, texts: Mapping[int, str]) -> dict[str, Any]:
    """Return a plan as plain JSON values; ``texts`` holds each advice's text by position."""
    return {
        **scan_plain(plan.scan, plan.policy, "plan"),
        "plan_id": plan.id,
        "changes": codec.encode(plan.changes),
        "advice": [
            {**codec.encode(advice), "text": texts.get(i, "")}
            for i, advice in enumerate(plan.advice)
        ],
        "refused": codec.encode(plan.refused),
        "warnings": list(plan.warnings),
        "kept": codec.encode(plan.kept),
        "lost_at_boot": list(plan.lost_at_boot),
    }


_SCAN_KEYS = ("host", "time", "findings", "unknown")


@dataclass(frozen=True)
class _Saved:
    """What a saved plan holds beyond its scan, as the strict decoder wants it."""

    plan_id: str
    policy: PolicyRef
    changes: tuple[Change, ...]
    advice: tuple[Advice, ...]
    refused: tuple[Refusal, ...]
    warnings: tuple[str, ...]
    kept: tuple[Kept, ...] = ()
    lost_at_boot: tuple[str, ...] = ()


def plan_from_json(text: str, where: str) -> Plan:
    """Read a saved plan back.

    Raises InputError where it is not a plan, was made by another version's format, or does
    something else than its id says.
    """
    plain = codec.loads(text, where)
    if not isinstance(plain, dict) or plain.get("kind") != "plan":
        raise InputError(f"{where}: not a plan", "make one with 'remedy plan -o FILE'")
    version = str(plain.get("format_version"))
    if version.split(".")[0] != FORMAT_VERSION.split(".")[0]:
        raise InputError(f"{where}: format_version {version}", f"this tool reads {FORMAT_VERSION}")
    plain["findings"] = _without(plain.get("findings"), "id", where)
    plain["advice"] = _without(plain.get("advice"), "text", where)
    for key in ("format_version", "kind", "tool", "left"):
        plain.pop(key, None)
    scanned = {key: plain.pop(key) for key in _SCAN_KEYS if key in plain}
    scan = codec.decode(Scan, scanned, where)
    saved = codec.decode(_Saved, plain, where)
    plan = Plan(
        scan=scan,
        policy=saved.policy,
        changes=saved.changes,
        advice=saved.advice,
        refused=saved.refused,
        warnings=saved.warnings,
        kept=saved.kept,
        lost_at_boot=saved.lost_at_boot,
    )
    for change in plan.changes:
        if change.fix not in fix_ids():
            raise InputError(f"{where}: no fix is called {change.fix!r}",
                             f"known: {', '.join(fix_ids())}")  # fmt: skip
    if plan.id != saved.plan_id:
        raise InputError(f"{where}: it was edited: plan_id {saved.plan_id}, content {plan.id}",
                         "make a new plan")  # fmt: skip
    return plan


def _without(items: object, key: str, where: str) -> list[Any]:
    """Return objects without a key that is derived from the others."""
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InputError(f"{where}: expected a list of objects")
    return [{k: v for k, v in item.items() if k != key} for item in items]
