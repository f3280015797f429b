"""What a report says of fixes is what the journal, the kernel and the traffic say.

Sequences of apply under one policy and another, removal, revert and rollback on a host with a
real UDP fault; after each step the record is held against ``status``, ``scan`` and a client.
"""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from cli_host import Cli, Q
from udp_client import client, serving

from remedies import catalogue
from remedies.lab.topology import addresses
from remedies.lab.world import World

DOCKER = ("--policy", "docker-host")
STEPS: dict[str, tuple[str, ...]] = {
    "apply default": ("apply", "--yes", *Q),
    "apply docker-host": ("apply", "--yes", *DOCKER, *Q),
    "prune under default": ("apply", "--yes", "--prune", *Q),
    "unconfirmed": ("apply", "--yes", "--confirm-timeout", "200ms", "--wait", *DOCKER, *Q),
    "roll back the last": ("rollback", "--yes"),
    "roll back a fix": ("rollback", "--yes", "--fix", "udp-redirect"),
    "roll back all": ("rollback", "--yes", "--every"),
}
SURE = ["apply docker-host", "apply default", "roll back all", "unconfirmed"]
"""What each walk begins with: the road on which a report once lied."""


@pytest.mark.parametrize("seed", [1, 2])
def test_every_word_of_a_report_is_true(tmp_path: Path, seed: int) -> None:
    steps = list(STEPS) * 2
    random.Random(seed).shuffle(steps)  # the same walk every time
    with serving("nft", 4) as world:
        cli = Cli(world, tmp_path)
        for number, step in enumerate(SURE + steps[:6]):
            ask(world)  # what failed is on record while the detectors look
            done = cli(*STEPS[step])
            assert done.returncode in (0, 1, 7, 64), (step, done.stdout, done.stderr)
            answered = ask(world) == "answered"
            hold(cli, tmp_path / f"report-{number}", answered, f"{seed}: {number} {step}")
        cli("rollback", "--yes", "--every")


def ask(world: World) -> str:
    """Ask the server once by the address on which its answer comes from another."""
    with client(world, addresses(world).uplink) as new:
        return new.ask()


def hold(cli: Cli, stem: Path, answered: bool, where: str) -> None:
    """Compare a report with status, detectors and traffic."""
    files = [f"{form}:{stem}.{form}" for form in ("json", "csv", "prometheus", "markdown")]
    made = cli("report", "--window", "0", *(x for f in files for x in ("-o", f)))
    assert made.returncode == 0, made.stderr
    (host,) = json.loads(Path(f"{stem}.json").read_text())["hosts"]
    status = cli.json("status")
    ours = {e["resource"]: e["transaction"] for e in status["in_force"] if e["state"] == "ours"}
    assert {e["state"] for e in status["in_force"]} <= {"ours"}, where
    fixes = {e["fix"] for e in status["in_force"]}
    answers = {c for fix in fixes for c in catalogue.fix(fix).ANSWERS}
    for judgement in host["judgements"]:
        told = (where, judgement["condition"], judgement["outcome"], judgement["history"])
        if judgement["outcome"] == "fixed":
            assert judgement["condition"] in answers, told
            assert judgement["verdict"] in ("mitigated", "absent"), told
        if judgement["history"] == "in-force":
            assert judgement["transaction"] in deeds_in_force(host), told
        if judgement["verdict"] == "proven":
            assert judgement["outcome"] == "fail", told
        if judgement["history"] in ("rolled-back", "reverted", "removed"):
            assert judgement["verdict_after"] in ("", judgement["verdict"]), told
    (reply,) = (j for j in host["judgements"] if j["condition"] == "udp-reply-source")
    assert (reply["outcome"] == "fixed") == answered == ("udp-redirect" in fixes), (where, reply)
    standing = {
        change["resource"]
        for deed in host["deeds"]
        for change in deed["changes"]
        if change["state"] == "in-force"
    }
    assert standing == set(ours), where
    as_found_and_advised(cli, host, where)
    same_everywhere(host, stem, where)


def as_found_and_advised(cli: Cli, host: dict[str, Any], where: str) -> None:
    """Compare what a report says was seen, and what to do, with a plan that is made beside it."""
    plan = cli.json("plan", "--window", "0")
    found = {finding["id"]: finding for finding in plan["findings"]}
    told = {j["id"]: j for j in host["judgements"] if j["subject"]}
    assert set(told) == set(found), where
    for name, judgement in told.items():
        said = (where, judgement["condition"])
        for key in ("verdict", "severity", "message", "mitigated_by"):
            assert judgement[key] == found[name][key], (*said, key)
        assert steady(judgement["evidence"]) == steady(found[name]["evidence"]), said
        advice = [f"{a['title']}: {a['text']}" for a in plan["advice"] if a["finding"] == name]
        assert judgement["advice"] == advice, said
        refused = [f"{r['fix']}: {r['reason']}" for r in plan["refused"] if r["finding"] == name]
        assert judgement["refused"] == refused, said
    assert [c["resource"] for c in host["planned"]] == [c["resource"] for c in plan["changes"]]
    assert host["warnings"] == plan["warnings"], where
    assert host["policy"] == plan["policy"]["names"], where


def steady(evidence: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    """Return what does not move from one look to the next: all but packets and totals of flows."""
    return [
        (e["source"], e["key"], "" if e["value"].lstrip("+").isdigit() else e["value"])
        for e in evidence
    ]


def deeds_in_force(host: dict[str, Any]) -> set[str]:
    return {
        deed["id"]
        for deed in host["deeds"]
        if any(change["state"] == "in-force" for change in deed["changes"])
    }


def same_everywhere(host: dict[str, Any], stem: Path, where: str) -> None:
    """Check that other formats say of each judgement what the JSON says."""
    wanted = sorted((j["condition"], j["outcome"], j["verdict"]) for j in host["judgements"])
    rows = csv.DictReader(io.StringIO(Path(f"{stem}.csv").read_text()))
    assert sorted((r["condition"], r["outcome"], r["verdict"]) for r in rows) == wanted, where
    metrics = Path(f"{stem}.prometheus").read_text()
    prose = Path(f"{stem}.markdown").read_text()
    for condition, outcome, verdict in wanted:
        series = [x for x in metrics.splitlines() if f'condition="{condition}"' in x]
        assert any(f'outcome="{outcome}"' in x and f'verdict="{verdict}"' in x for x in series)
        assert f"| {outcome} | {verdict} |" in prose
