"""The mission's first fault through the real command line, held against the whole ruleset.

Scan, plan, apply, traffic, a second apply, status, rollback, traffic again; what is not ours is
equal throughout, and everything is equal at the end. Every scenario on every backend is
``test_lab_story.py``'s, this one with NAT by nft and by the backend's own program; here are the
pairs that it has not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked_cli
import pytest

from remedies.lab import ruleset
from remedies.lab.scenarios import tcp_invalid_reset
from remedies.lab.world import Options, World

FAR = 100_000_000
LIBERAL = """\
apiVersion: remedy/v1
name: liberal
extends: default
rules:
  tcp-invalid-reset: {mode: fix, from: exposed, fixes: [tcp-be-liberal]}
"""


class Host:
    """The host namespace of a world, and the command line that works in it."""

    def __init__(self, world: World, folder: Path, *options: str) -> None:
        self.world = world
        self.options = ("--netns", world.namespace("host"), "--state-dir", str(folder), *options)

    def remedy(self, *words: str, code: int = 0) -> str:
        """Run a command line, check its exit code, and return what it printed."""
        done = forked_cli.run(*self.options, *words, env=os.environ)
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def json(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run a command line with --json and return what it printed."""
        plain: dict[str, Any] = json.loads(self.remedy(*words, "--json", code=code))
        return plain

    def lives(self) -> bool:
        """Send one transfer with a segment far above the window through the host."""
        return tcp_invalid_reset.transfer(self.world, FAR).alive

    def verdict(self) -> str:
        """Return the verdict of tcp-invalid-reset now."""
        found = self.json("scan", "--window", "0")["findings"]
        (verdict,) = (f["verdict"] for f in found if f["condition"] == "tcp-invalid-reset")
        return str(verdict)


WORLDS = [
    pytest.param(nat, family, backend, id=f"{nat}-v{family}-{backend}")
    for nat, family, backend in (
        ("iptables-nft", 4, "iptables"),
        ("iptables-legacy", 6, "nftables"),
    )
]


@pytest.fixture
def world(nat: str, family: int) -> Iterator[World]:
    with World("tcp-invalid-reset", Options(nat, family)) as made:
        tcp_invalid_reset.build(made)
        yield made


@pytest.mark.parametrize(("nat", "family", "backend"), WORLDS)
def test_invalid_drop(world: World, tmp_path: Path, backend: str) -> None:
    host = Host(world, tmp_path, "--backend", backend)
    before = ruleset.dump(world)
    whole_path(host, "invalid-drop")
    assert ruleset.difference(before, ruleset.dump(world)) == ""


@pytest.mark.parametrize(("nat", "family"), [("nft", 4), ("iptables-legacy", 6)])
def test_tcp_be_liberal(world: World, tmp_path: Path) -> None:
    policy = tmp_path / "liberal.yaml"
    policy.write_text(LIBERAL)
    host = Host(world, tmp_path, "--policy", str(policy))
    before = ruleset.dump(world)
    whole_path(host, "tcp-be-liberal")
    assert ruleset.difference(before, ruleset.dump(world)) == ""


def whole_path(host: Host, fix: str) -> None:
    """Go the whole way with one fix."""
    assert not host.lives()
    assert host.verdict() == "exposed"
    plan = host.json("plan", "--window", "0")
    assert {change["fix"] for change in plan["changes"]} == {fix}
    assert not host.lives()

    applied = host.json("apply", "--yes", "--window", "0.1")
    assert applied["outcome"] == "applied"
    assert [v["after"] for v in applied["verified"]] == ["mitigated"]
    assert host.lives()
    assert host.verdict() == "mitigated"
    in_force = ruleset.dump(host.world)

    again = host.json("apply", "--yes", "--window", "0")
    assert (again["outcome"], again["changes"]) == ("nothing", [])
    assert ruleset.difference(in_force, ruleset.dump(host.world)) == ""
    assert {e["state"] for e in host.json("status")["in_force"]} == {"ours"}

    undone = host.json("rollback", "--yes")
    assert undone["outcome"] == "rolled-back"
    assert not host.lives()
    assert host.verdict() == "exposed"
    assert host.json("status")["in_force"] == []
    assert host.json("rollback", "--yes")["outcome"] == "nothing"


@pytest.mark.parametrize(("nat", "family"), [("nft", 4)])
class TestSavedPlans:
    """A saved plan is applied exactly, or refused with what moved."""

    @pytest.fixture
    def host(self, world: World, tmp_path: Path) -> Host:
        host = Host(world, tmp_path)
        self.plan = str(tmp_path / "plan.json")
        host.remedy("plan", "--window", "0", "-o", self.plan)
        return host

    def test_applied_exactly(self, host: Host) -> None:
        made = json.loads(Path(self.plan).read_text())
        applied = host.json("apply", self.plan, "--yes", "--window", "0")
        assert applied["changes"] == made["changes"]
        assert host.lives()

    def test_stale_once_applied(self, host: Host) -> None:
        host.remedy("apply", self.plan, "--yes", "--window", "0")
        assert host.json("apply", self.plan, "--yes", code=5)["outcome"] == "stale"

    def test_stale_when_the_fault_is_gone(self, host: Host) -> None:
        host.world.run("host", ["nft", "delete", "table", "ip", "lab_nat"])
        stale = host.json("apply", self.plan, "--yes", code=5)
        assert "tcp-invalid-reset on tcp through NAT moved" in stale["reason"]

    def test_stale_when_a_guard_now_refuses(self, host: Host) -> None:
        text = "table inet theirs {\n"
        for hook in ("input", "forward"):
            text += (
                f"chain {hook} {{ type filter hook {hook} priority 0; policy accept;\n"
                "ct state invalid drop\n}\n"
            )
        host.world.run("host", ["nft", "-f", "-"], text + "}\n")
        stale = host.json("apply", self.plan, "--yes", code=5)
        assert "moved" in stale["reason"] or "refused now" in stale["reason"]

    def test_refused_when_edited(self, host: Host) -> None:
        text = Path(self.plan).read_text().replace("invalid", "new")
        Path(self.plan).write_text(text)
        host.remedy("apply", self.plan, "--yes", code=65)

    def test_refused_on_another_host(self, host: Host) -> None:
        plain = json.loads(Path(self.plan).read_text())
        plain["host"]["machine_id"] = "another"
        Path(self.plan).write_text(json.dumps(plain))
        host.remedy("apply", self.plan, "--yes", code=65)


@pytest.mark.parametrize(("nat", "family"), [("nft", 4)])
class TestThirdParties:
    """What others change is seen, and never overwritten."""

    @pytest.fixture
    def host(self, world: World, tmp_path: Path) -> Host:
        host = Host(world, tmp_path)
        host.remedy("apply", "--yes", "--window", "0")
        return host

    def test_a_flushed_ruleset_is_drift_and_apply_restores_it(self, host: Host) -> None:
        host.world.run("host", ["nft", "delete", "table", "inet", "remedy_invalid_drop"])
        assert [e["state"] for e in host.json("status", code=2)["in_force"]] == ["gone"]
        host.remedy("apply", "--yes", "--window", "0")
        assert [e["state"] for e in host.json("status")["in_force"]] == ["ours"]
        assert host.json("rollback", "--yes", "--every")["outcome"] == "rolled-back"

    def test_an_edited_rule_is_drift_and_rollback_refuses(self, host: Host) -> None:
        rule = ["nft", "add", "rule", "inet", "remedy_invalid_drop", "output", "counter"]
        host.world.run("host", rule)
        assert [e["state"] for e in host.json("status", code=2)["in_force"]] == ["drifted"]
        undone = host.json("rollback", "--yes", code=1)
        assert undone["outcome"] == "refused"
        assert "changed by somebody else" in undone["drift"][0]
        assert host.json("rollback", "--yes", "--force")["outcome"] == "rolled-back"

    def test_counters_are_shown(self, host: Host) -> None:
        assert host.lives()
        (entry,) = host.json("status")["in_force"]
        assert entry["counters"]["packets output"] == 1

    def test_what_policy_no_longer_wants_is_given_back(self, host: Host) -> None:
        """By the policy that applied it; another one keeps it, unless it is told to prune."""
        other = ("plan", "--policy", "observe-only", "--window", "0")
        plan = host.json(*other)
        assert (plan["changes"], [k["fix"] for k in plan["kept"]]) == ([], ["invalid-drop"])
        plan = host.json(*other, "--prune")
        assert [(c["action"], c["resource"]) for c in plan["changes"]] == [
            ("remove", "nft:inet/remedy_invalid_drop")
        ]

    def test_a_gone_cause_keeps_the_fix_unless_pruned(self, host: Host) -> None:
        host.world.run("host", ["nft", "delete", "table", "ip", "lab_nat"])
        assert host.json("plan", "--window", "0")["changes"] == []
        changes = host.json("plan", "--window", "0", "--prune")["changes"]
        assert [c["action"] for c in changes] == ["remove"]


@pytest.mark.parametrize(("nat", "family"), [("nft", 4)])
def test_saved_facts_judge_the_same(world: World, tmp_path: Path) -> None:
    host = Host(world, tmp_path)
    facts = str(tmp_path / "facts.json")
    live = host.json("scan", "--window", "0", "--save-facts", facts)
    saved = host.json("scan", "--facts", facts)
    assert saved["findings"] == live["findings"]
    assert saved["time"] == live["time"]


@pytest.mark.parametrize(("nat", "family"), [("nft", 4)])
def test_looking_writes_nothing(world: World, tmp_path: Path) -> None:
    """A system-call trace shows no file opened for writing outside the state directory."""
    host = Host(world, tmp_path)
    before = ruleset.dump(world)
    for words in (["scan"], ["plan"], ["status"], ["verify"], ["history"], ["report"]):
        trace = tmp_path / "trace"
        done = subprocess.run(
            ["strace", "-f", "-o", str(trace), "-e", "trace=openat,open,creat,rename,unlink,mkdir",
             sys.executable, "-B", "-m", "remedies", *host.options, *words],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode in (0, 2), done.stderr
        writes = [
            line
            for line in trace.read_text().splitlines()
            if any(flag in line for flag in ("O_WRONLY", "O_RDWR", "O_CREAT", "rename(", "mkdir("))
            and str(tmp_path) not in line
            and "/dev/null" not in line
            and " = -1 " not in line
        ]
        assert writes == []
    assert ruleset.difference(before, ruleset.dump(world)) == ""
