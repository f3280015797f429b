"""Scans and plans as JSON; :mod:`remedies.planning.savedplan` reads a plan back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remedies import __version__, codec
from remedies.model import (
    FORMAT_VERSION,
    Plan,
    PolicyRef,
    Scan,
)

PLAN_VERSION = "2.0"
"""Of plans. 1.0 had an id over resources and states alone."""


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
        "format_version": PLAN_VERSION,
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
        "settled": list(plan.settled),
        "made_from": plan.made_from,
    }
