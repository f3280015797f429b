"""The OSCAL documents of a report, as plain values: assessment results and the stub of their plan.

OSCAL 1.2 (pages.nist.gov/OSCAL). An observation is one judgement on one host; a finding is one
control objective of NIST SP 800-53, not satisfied where a fault that bears on it stands or could
not be judged. Every uuid is derived from what it names, so that the same record gives the same
bytes.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterable
from typing import Any

from remedies import HOME
from remedies.report.controls import CHANGE_CONTROL, nist
from remedies.report.markdown_escape import cut, prose
from remedies.report.record import HostReport, Judgement, Report, Unreached, answer, is_open

VERSION = "1.2.1"
_SPACE = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")  # RFC 9562: the OID namespace
_NS = f"{HOME}/ns/oscal"

Plain = dict[str, Any]


def plan(report: Report) -> Plain:
    """Return the stub assessment plan: which controls are looked at, and how."""
    who = ", ".join(h.place.name for h in report.hosts[:3])
    ssp = _uuid(report, "ssp")
    return {
        "uuid": _uuid(report, "plan"),
        "metadata": _metadata(report, "Stub assessment plan of a remedy report"),
        "import-ssp": {"href": f"#{ssp}"},
        "reviewed-controls": _reviewed(_controls(report)),
        "back-matter": {
            "resources": [
                {
                    "uuid": ssp,
                    "title": "System security plan",
                    "description": f"Not part of this report. Hosts: {prose(who)}",
                }
            ]
        },
    }


def results(report: Report) -> Plain:
    """Return the assessment results, with the stub of their plan inside."""
    plan_id = _uuid(report, "plan")
    stub = json.dumps({"assessment-plan": plan(report)}, indent=2, sort_keys=True)
    attached = {
        "filename": "assessment-plan.json",
        "media-type": "application/oscal+json",
        "value": base64.b64encode(stub.encode()).decode(),
    }
    return {
        "uuid": _uuid(report, "results"),
        "metadata": _metadata(report, "Assessment results of remedy"),
        "import-ap": {"href": f"#{plan_id}"},
        "results": [_result(report)],
        "back-matter": {
            "resources": [
                {"uuid": plan_id, "title": "Stub assessment plan", "base64": attached},
            ]
        },
    }


def _uuid(report: Report, *words: str) -> str:
    """Return a uuid of what the words name on the hosts of this report."""
    hosts = [f"{h.place.machine_id}/{h.place.netns}/{h.place.name}" for h in report.hosts]
    return str(uuid.uuid5(_SPACE, json.dumps([*hosts, "|", *words])))


def _metadata(report: Report, title: str) -> Plain:
    facts = {"tool": f"{report.tool.name} {report.tool.version}", "rollout": report.run}
    return {
        "title": title,
        "last-modified": report.made,
        "version": report.made,
        "oscal-version": VERSION,
        "props": [_prop(name, value) for name, value in facts.items() if value],
    }


def _prop(name: str, value: str) -> Plain:
    return {"name": name, "ns": _NS, "value": _line(value)}


def _line(text: str) -> str:
    """Return text as OSCAL's string type: one line, not empty, no blank at its ends."""
    return " ".join(cut(text, 1000).split()) or "-"


def _controls(report: Report) -> tuple[str, ...]:
    found = {c for h in report.hosts for j in h.judgements for c in nist(j.controls)}
    found.update(nist((CHANGE_CONTROL,)))
    return tuple(sorted(found))


def _reviewed(controls: Iterable[str]) -> Plain:
    chosen = [{"control-id": control} for control in controls]
    return {"control-selections": [{"include-controls": chosen}]}


def _result(report: Report) -> Plain:
    judged = [(h, j) for h in report.hosts for j in h.judgements if j.outcome != "not-applicable"]
    result: Plain = {
        "uuid": _uuid(report, "result", report.made),
        "title": "Networking faults found, fixed and left",
        "description": f"{len(report.hosts)} hosts, {len(judged)} judgements; "
        f"{len(report.unreached)} hosts never reached.",
        "start": min((h.time for h in report.hosts), default=report.made),
        "end": report.made,
        "reviewed-controls": _reviewed(_controls(report)),
    }
    items = [_inventory(report, host) for host in report.hosts]
    items += [_absent(report, missing) for missing in report.unreached]
    if items:
        result["local-definitions"] = {"inventory-items": items}
    observations = [_observation(report, h, j) for h, j in judged]
    observations += [_unseen(report, missing) for missing in report.unreached]
    if observations:
        result["observations"] = observations
        findings = _findings(report, judged)
        if findings:  # none where every condition is one that we do not know
            result["findings"] = findings
    return result


def _absent(report: Report, missing: Unreached) -> Plain:
    return {
        "uuid": _uuid(report, "unreached", missing.name),
        "description": prose(missing.name) or "-",
        "props": [_prop("reached", "no")],
    }


def _unseen(report: Report, missing: Unreached) -> Plain:
    """Return the observation that a host could not be observed."""
    subject = {"subject-uuid": _uuid(report, "unreached", missing.name), "type": "inventory-item"}
    return {
        "uuid": _uuid(report, "unseen", missing.name),
        "title": "Host never reached",
        "description": prose(missing.reason) or "-",
        "methods": ["TEST"],
        "subjects": [subject],
        "collected": report.made,
        "props": [_prop("outcome", "unknown")],
    }


def _inventory(report: Report, host: HostReport) -> Plain:
    place = host.place
    facts = {
        "kernel": place.kernel,
        "distribution": place.distribution,
        "machine-id": place.machine_id,
        "netns": place.netns,
        "policy-digest": host.policy_digest,
        "rollout": host.rollout.state if host.rollout else "",
        "rollout-reason": host.rollout.message if host.rollout else "",
        "journal-head": host.chain.head if host.chain else "",
    }
    return {
        "uuid": _subject(report, host),
        "description": prose(place.name) or "-",
        "props": [_prop(name, value) for name, value in facts.items() if value],
    }


def _subject(report: Report, host: HostReport) -> str:
    return _uuid(report, "host", host.place.machine_id, host.place.name, host.place.netns)


def _observed(report: Report, host: HostReport, judgement: Judgement) -> str:
    place = host.place
    return _uuid(report, "observation", place.machine_id, place.name, place.netns, judgement.id)


def _observation(report: Report, host: HostReport, judgement: Judgement) -> Plain:
    deed = answer(host, judgement)
    props = {
        "condition": judgement.condition,
        "subject": judgement.subject,
        "outcome": judgement.outcome,
        "verdict": judgement.verdict,
        "severity": judgement.severity,
        "transaction": judgement.transaction,
        "history": judgement.history,
        "performed-by": deed.actor.user if deed else "",
        "approved-by": deed.actor.approver if deed else "",
        "change-id": deed.actor.change_id if deed else "",
        "waived": judgement.waived or "",
    }
    observation: Plain = {
        "uuid": _observed(report, host, judgement),
        "title": prose(judgement.title),
        "description": prose(judgement.message) or "-",
        "methods": ["TEST"],
        "subjects": [{"subject-uuid": _subject(report, host), "type": "inventory-item"}],
        "collected": judgement.time,
        "props": [_prop(name, value) for name, value in props.items() if value],
    }
    evidence = [
        {
            "description": prose(
                f"{e.source}: {e.key} {e.value}" + (f" ({e.note})" if e.note else "")
            )
        }
        for e in judgement.evidence
    ]
    if evidence:
        observation["relevant-evidence"] = evidence
    return observation


def _findings(report: Report, judged: list[tuple[HostReport, Judgement]]) -> list[Plain]:
    by_control: dict[str, list[tuple[HostReport, Judgement]]] = {
        control: [] for control in _controls(report) if report.unreached
    }
    for host, judgement in judged:
        for control in nist(judgement.controls):
            by_control.setdefault(control, []).append((host, judgement))
    return [_finding(report, control, by_control[control]) for control in sorted(by_control)]


def _finding(report: Report, control: str, judged: list[tuple[HostReport, Judgement]]) -> Plain:
    standing = sum(is_open(j) for _, j in judged)
    unknown = sum(j.outcome == "unknown" for _, j in judged) + len(report.unreached)
    state = "not-satisfied" if standing or unknown else "satisfied"
    reason = "fail" if standing else "other" if unknown else "pass"
    seen = [_observed(report, h, j) for h, j in judged]
    seen += [_uuid(report, "unseen", missing.name) for missing in report.unreached]
    return {
        "uuid": _uuid(report, "finding", control),
        "title": f"{control.upper()}: {standing} open faults, {unknown} not judged",
        "description": f"Of {len(judged)} judgements that bear on {control.upper()}.",
        "target": {
            "type": "objective-id",
            "target-id": f"{control}_obj",
            "status": {"state": state, "reason": reason},
        },
        "related-observations": [{"observation-uuid": each} for each in seen],
    }
