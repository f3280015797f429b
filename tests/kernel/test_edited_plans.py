"""A plan is what its fixes make: whoever edits one, and makes its id anew, changes nothing.

Saved by the real command line on a kernel with the fault; each edit is applied there, must be
refused as bad input, and must leave every rule, key and file as it was.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty import Host, standing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remedies import values
from remedies.errors import InputError
from remedies.model import Change
from remedies.planning import savedplan

OBSERVED = ("source", "key", "value")
"""What evidence says."""
Edit = Callable[[dict[str, Any]], None]
OF_SCHEMES = ("finding", "resource", "action", "before", "after")
"""Fields of a change that are compared with what a scheme reads, or that a fix may not have."""
WORLDS = (
    ("iptables-nft", "invalid-drop"),
    ("nftables", "tcp-be-liberal"),
    ("nftables", "notrack"),
    ("nftables", "udp-redirect"),
)


@pytest.fixture(params=WORLDS, ids="-".join)
def host(
    request: pytest.FixtureRequest, netns: Callable[..., str], tmp_path: Path
) -> Iterator[Host]:
    backend, fix = request.param
    with standing(backend, fix, netns, tmp_path) as here:
        here.stir()
        yield here


def saved(host: Host) -> dict[str, Any]:
    """Return a plan of this host, as it was saved."""
    path = host.folder / "plan.json"
    path.unlink(missing_ok=True)
    done = host.run("plan", "-o", str(path), window="0")
    assert done.code == 0, done.out
    plan: dict[str, Any] = json.loads(path.read_text())
    assert plan["changes"], done.out
    return plan


def apply(host: Host, plan: object, *words: str) -> tuple[int, str]:
    """Apply a plan whose id is made anew; return the exit code and what was said."""
    path = host.folder / "edited.json"
    text = json.dumps(plan)
    try:
        savedplan.read(text, "edited")
    except InputError as refused:
        moved = re.search(r"plan_id [0-9a-f]*, content ([0-9a-f]+)", str(refused))
        if moved is not None and isinstance(plan, dict):
            text = json.dumps({**plan, "plan_id": moved.group(1)})
    path.write_text(text)
    path.chmod(0o600)
    done = host.run("apply", str(path), *(words or ("--yes", "--no-wait")))
    return done.code, done.out


def edits(change: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield, for every field of a change that is acted on, what an editor may write into it."""
    after = change["after"] or ""
    yield "fix", next(f for f in ("tcp-be-liberal", "invalid-drop") if f != change["fix"])
    yield "fix", "no-such-fix"
    yield "finding", "0123456789abcdef"
    yield "finding", None if change["finding"] else "0123456789abcdef"
    yield "resource", "sysctl:net.ipv4.ip_forward"
    yield "resource", "nft:inet/filter"
    yield "resource", "file:/etc/systemd/system/remedy-evil.service"
    yield "resource", "no scheme"
    yield "action", "update" if change["action"] == "create" else "create"
    yield "before", "x" if change["before"] is None else None
    yield "after", None
    yield "after", after.replace("drop", "accept").replace("DROP", "ACCEPT") + "1"
    yield "after", after.replace('"chain":"', '"chain":"no')
    yield "after", "flush ruleset\n"
    yield "after", "\ud800"
    yield "reversibility", "none"
    yield "risk", "low" if change["risk"] != "low" else "high"
    yield "effects", ["file:/etc/sysctl.d/99-remedy-victim.conf"]
    yield "effects", ["flow:udp/192.0.2.9/53/192.0.2.10/4500"]
    yield "effects", ["nonsense"]
    yield "boot", not change["boot"]
    yield "terms", {**change["terms"], "persist": not change["terms"]["persist"]}
    backends = ("iptables", "nftables")
    yield (
        "terms",
        {**change["terms"], "backend": backends[change["terms"]["backend"] == "iptables"]},
    )
    yield "terms", {**change["terms"], "params": {"ports": "none", "x": []}}
    yield "others", ["0123456789abcdef"]
    yield "accept_harm", ["no-such-condition"]
    yield "also", [{"backend": "nftables", "persist": False, "params": {"ports": [1]}}]


def test_whatever_field_is_edited_it_is_refused(host: Host) -> None:
    plan = saved(host)
    before, journal = host.dump(), host.state / "journal.jsonl"
    first = (host.backend, host.fix) == WORLDS[0]
    tried = set()
    seen: set[str] = set()
    for number, change in enumerate(plan["changes"]):
        known = change["resource"].partition(":")[0]
        for field, value in edits(change):
            if (known in seen or not first) and field not in OF_SCHEMES:
                continue  # told by the first of its scheme as well; the plan is long
            changes = [*plan["changes"]]
            changes[number] = {**change, field: value}
            if changes[number] == change:
                continue
            code, said = apply(host, {**plan, "changes": changes})
            told = (number, field, value, code, said)
            # Nothing else is written before the journal is.
            assert not journal.exists() or journal.stat().st_size == 0, told
            # What was before, and what a guard said, may have been so then: stale, for all we know.
            stale = field == "before" or (field, value) == ("finding", None)
            assert code == 65 or (stale and code == 5), told
            tried.add(field)
        assert host.dump() == before, change
        seen.add(known)
    names = values.fields(Change)
    assert names is not None
    every = set(names) - {"diff", "impact"}
    assert tried == (every if first else {*OF_SCHEMES}), "a field that no edit tries"


def test_harm_that_is_not_accepted_is_refused_and_what_is_found_is_found_here(
    netns: Callable[..., str], tmp_path: Path
) -> None:
    with standing("nftables", "invalid-drop", netns, tmp_path) as host:
        plan, before = saved(host), host.dump()
        assert {tuple(c["accept_harm"]) for c in plan["changes"]} == {("tcp-invalid-reset",)}
        without = [{**change, "accept_harm": []} for change in plan["changes"]]
        for verdict in ("exposed", "proven", "active"):
            findings = [{**f, "verdict": verdict} for f in plan["findings"]]
            code, said = apply(host, {**plan, "changes": without, "findings": findings})
            assert (code, host.dump()) == (65 if verdict == "exposed" else 5, before), said
            assert "accept_harm" in said
        forged = [
            {
                **f,
                "message": "FORGED",
                "severity": "low",
                "evidence": [dict.fromkeys(OBSERVED, "FORGED")],
            }
            for f in plan["findings"]
        ]
        more: dict[str, Any] = {
            "template": "fix",
            "values": {},
            "title": "FORGED",
            "fix": "notrack",
            "finding": None,
        }
        code, said = apply(host, {**plan, "findings": forged, "advice": [more]})
        assert code == 0, said
        assert "policy accepts harm of invalid-drop for tcp-invalid-reset" in said
        assert "FORGED" not in said
        journal = (host.state / "journal.jsonl").read_text()
        assert '"condition":"tcp-invalid-reset"' in journal
        assert "FORGED" not in journal


def test_what_is_shown_is_made_here(host: Host) -> None:
    plan = saved(host)
    told = [line for c in plan["changes"] for line in c["diff"].splitlines()]
    lines = [ln for ln in told if ln[0] in "+-" and ln[:3] not in ("+++", "---")]
    for change in plan["changes"]:
        change["diff"] = change["impact"] = "nothing to see"
    code, said = apply(host, plan, "--dry-run")
    assert code == 0, said
    assert [line for line in lines if line.strip() not in said] == []
    assert "nothing to see" not in said


def test_plans_of_two_minds_are_refused(host: Host) -> None:
    """One resource twice, a change left out, one that is added, another order of the words."""
    plan, before = saved(host), host.dump()
    changes = plan["changes"]
    evil = {
        **changes[0],
        "resource": "file:/etc/systemd/system/remedy-evil.service",
        "after": "[Service]\nExecStart=/bin/true\n",
        "before": None,
        "boot": True,
        "action": "create",
    }
    for edited in ([*changes, changes[0]], [*changes, evil], changes[1:]):
        if not edited:
            continue
        code, said = apply(host, {**plan, "changes": edited})
        assert code == 65, (edited, said)
        assert host.dump() == before, edited


def test_an_unedited_plan_is_applied_and_its_removal_too(host: Host) -> None:
    before = host.dump()
    plan = saved(host)
    code, said = apply(host, plan)
    assert code in (0, 3), said
    if code == 3:
        return
    assert host.dump() != before
    (host.folder / "policy.yaml").write_text(
        (host.folder / "policy.yaml").read_text().split("rules:")[0]
        + "rules:\n  tcp-invalid-reset: {mode: off}\n"
    )
    removal = saved(host)
    for number, change in enumerate(removal["changes"]):
        edited = [*removal["changes"]]
        edited[number] = {**change, "after": "x" if change["after"] is None else None}
        there = host.dump()
        code, said = apply(host, {**removal, "changes": edited})
        assert code == 65, (edited[number], said)
        assert host.dump() == there
    code, said = apply(host, removal)
    assert code == 0, said
    assert host.dump() == before


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.just("\ud800"), st.just([]),
    st.just({}), st.sampled_from(("proven", "drop", "flow:udp/x/1", "file:/etc/x", "inet/filter")),
)  # fmt: skip


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(pairs):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from _places(item)


THIRTY = settings(max_examples=30, suppress_health_check=list(HealthCheck))


def _edited(data: st.DataObject, whole: Any) -> Any:
    """Return a copy in which one part is gone, or is something else."""
    edited = json.loads(json.dumps(whole))
    parent, key = data.draw(st.sampled_from(list(_places(edited))))
    if data.draw(st.booleans()):
        del parent[key]
    else:
        parent[key] = data.draw(JUNK)
    return edited


def test_no_edit_ends_in_a_bug(netns: Callable[..., str], tmp_path: Path) -> None:
    """Bounded: 30 real plans in which one part is another, gone or there twice."""
    with standing("nftables", "notrack", netns, tmp_path) as host:
        plan = saved(host)

        @THIRTY
        @given(st.data())
        def one(data: st.DataObject) -> None:
            edited = _edited(data, plan)
            code, said = apply(host, edited, "--dry-run")
            assert code in (0, 5, 8, 65, 78), (code, said)

        one()


def test_no_edit_of_facts_ends_in_a_bug(netns: Callable[..., str], tmp_path: Path) -> None:
    """Bounded: 30 real snapshots in which one part is another or gone."""
    with standing("nftables", "invalid-drop", netns, tmp_path) as host:
        path = tmp_path / "facts.json"
        done = host.run("scan", "--window", "0", "--save-facts", str(path))
        assert done.code in (0, 2), done.out
        facts = json.loads(path.read_text())

        @THIRTY
        @given(st.data())
        def one(data: st.DataObject) -> None:
            edited = _edited(data, facts)
            path.write_text(json.dumps(edited))
            done = host.run("scan", "--facts", str(path))
            assert done.code in (0, 1, 2, 65), (done.code, done.out)

        one()


def test_an_apply_that_cannot_speak_changes_nothing_and_is_no_bug(
    netns: Callable[..., str], tmp_path: Path
) -> None:
    with (
        standing("nftables", "invalid-drop", netns, tmp_path) as host,
        open("/dev/full", "w") as full,
    ):
        before = host.dump()
        argv = [
            "nsenter", f"--net=/run/netns/{host.ns}", sys.executable, "-m", "remedies", "apply",
            "--yes", "--window", "0", "--no-wait", "--state-dir", str(tmp_path / "state"),
            "--policy", str(tmp_path / "policy.yaml"),
        ]  # fmt: skip
        done = subprocess.run(
            argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
        assert done.returncode == 1, done.stderr
        assert "No space left on device" in done.stderr
        assert host.dump() == before
