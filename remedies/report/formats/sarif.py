"""SARIF 2.1.0 for code-scanning views: the faults that stand, each at its policy's line.

A result points at the rule of the policy that judged it, since that is the file a person edits.
Messages are plain text with SARIF's own characters escaped (section 3.11: braces make
placeholders, brackets make links).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from remedies import HOME, catalogue
from remedies.model import digest
from remedies.report.controls import controls
from remedies.report.record import HostReport, Judgement, Report, answer, failures, is_open

HELP = "SARIF 2.1.0: the open faults, at their policy's line"

_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note"}
_SCORES = {"critical": "9.0", "high": "7.5", "medium": "5.0", "low": "2.0"}
"""``security-severity``, the number by which code-scanning views sort."""
_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def render(report: Report) -> Iterator[str]:
    """Yield the log: one run, with a result for each fault that stands."""
    rules = [_rule(name) for name in catalogue.condition_ids()]
    index = {rule["id"]: number for number, rule in enumerate(rules)}
    results = [
        _result(host, judgement, index)
        for host in report.hosts
        for judgement in host.judgements
        if is_open(judgement)
    ]
    driver = {
        "name": report.tool.name,
        "version": report.tool.version,
        "informationUri": f"{HOME}/",
        "rules": rules,
    }
    missing = [
        {"level": "error", "message": {"text": _text(f"{m.name} was not reached: {m.reason}")}}
        for m in report.unreached
    ]
    missing += [
        {"level": "error", "message": {"text": _text(f"rollout of {name}: {why}")}}
        for name, why in failures(report)
    ]
    invocation: dict[str, Any] = {"executionSuccessful": not missing, "endTimeUtc": report.made}
    if missing:
        invocation["toolExecutionNotifications"] = missing
    run = {
        "tool": {"driver": driver},
        "invocations": [invocation],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    yield json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(name: str) -> dict[str, Any]:
    module = catalogue.condition(name)
    text = (module.__doc__ or module.TITLE).strip()
    return {
        "id": name,
        "shortDescription": {"text": module.TITLE},
        "fullDescription": {"text": text.partition("\n")[0]},
        "help": {"text": text},
        "helpUri": f"{HOME}/docs/conditions/{name}.md",
        "defaultConfiguration": {"level": _LEVELS[module.SEVERITY]},
        "properties": {
            "tags": list(controls(name)),
            "security-severity": _SCORES[module.SEVERITY],
        },
    }


def _result(host: HostReport, judgement: Judgement, index: dict[str, int]) -> dict[str, Any]:
    place = host.place
    result: dict[str, Any] = {
        "ruleId": judgement.condition,
        "level": _LEVELS.get(judgement.severity, "warning"),
        "kind": "fail",
        "message": {"text": _text(f"{place.name}: {judgement.message}")},
        "locations": [_location(host, judgement)],
        "partialFingerprints": {
            "remedyFinding/v1": digest([place.machine_id, place.netns, judgement.id])
        },
        "properties": {
            "outcome": judgement.outcome,
            "verdict": judgement.verdict,
            "history": judgement.history,
            "evidence": [
                f"{e.source}: {e.key} {e.value}" + (f" ({e.note})" if e.note else "")
                for e in judgement.evidence
            ],
        },
    }
    deed = answer(host, judgement)
    if deed is not None:
        done = {"transaction": deed.id, "by": deed.actor.user, "approvedBy": deed.actor.approver}
        done["change"] = deed.actor.change_id
        result["properties"].update({key: value for key, value in done.items() if value})
    if host.rollout is not None:
        result["properties"]["rollout"] = host.rollout.state
    if judgement.condition in index:
        result["ruleIndex"] = index[judgement.condition]
    return result


def _location(host: HostReport, judgement: Judgement) -> dict[str, Any]:
    names = (host.place.name, host.place.netns, judgement.subject)
    location: dict[str, Any] = {
        "logicalLocations": [
            {"fullyQualifiedName": "/".join(name for name in names if name), "kind": "resource"}
        ]
    }
    file, _, line = judgement.policy.rpartition(":")
    inside = bool(file) and ".." not in file.split("/")  # a viewer opens it below its own folder
    if inside and re.fullmatch(r"[1-9]\d{0,8}", line, re.ASCII):
        location["physicalLocation"] = {
            "artifactLocation": {"uri": quote(file.lstrip("/"), safe="/~.-_")},
            "region": {"startLine": int(line)},
        }
    return location


def _text(text: str) -> str:
    """Return text with the characters escaped that mean something in a SARIF message."""
    for mark in ("\\", "[", "]"):
        text = text.replace(mark, "\\" + mark)
    return text.replace("{", "{{").replace("}", "}}")
