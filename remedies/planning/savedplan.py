"""A saved plan read back, checked as far as the file alone allows."""

from __future__ import annotations

from typing import Any

from remedies import codec
from remedies.errors import InputError
from remedies.model import Advice, Change, Kept, Plan, PolicyRef, Refusal, Scan
from remedies.planning.planfile import PLAN_VERSION
from remedies.planning.remake import consistent
from remedies.values import dataclass, field

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
    settled: tuple[str, ...] = ()
    made_from: dict[str, str] = field(default_factory=dict)


def read(text: str, where: str) -> Plan:
    """Return the plan that a file holds.

    Raises InputError if it is not a plan, has another version's format, does not match its id, or
    cannot have been made by this tool. Whether its fixes make the same changes on this host is
    checked by :mod:`remedies.planning.remake`.
    """
    plain = codec.loads(text, where)
    if not isinstance(plain, dict) or plain.get("kind") != "plan":
        raise InputError(f"{where}: not a plan", "make one with 'remedy plan -o FILE'")
    version = str(plain.get("format_version"))
    if version.split(".")[0] != PLAN_VERSION.split(".")[0]:
        raise InputError(f"{where}: format_version {version[:20]!r} of the plan is not what this "
                         f"version reads ({PLAN_VERSION})", "make a new plan")  # fmt: skip
    plain["findings"] = _without(plain, "findings", "id", where)
    plain["advice"] = _without(plain, "advice", "text", where)
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
        settled=saved.settled,
        made_from=saved.made_from,
    )
    consistent(plan, where)
    if plan.id != saved.plan_id:
        raise InputError(f"{where}: it was edited: plan_id {saved.plan_id}, content {plan.id}",
                         "make a new plan")  # fmt: skip
    return plan


def _without(plain: dict[str, Any], name: str, key: str, where: str) -> list[Any]:
    """Return the objects of a list without a key that is derived from the others."""
    items = plain.get(name)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InputError(f"{where}: {name}: expected a list of objects", "make a new plan")
    return [{k: v for k, v in item.items() if k != key} for item in items]
