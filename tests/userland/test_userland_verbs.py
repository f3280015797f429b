"""The bundle's own command line on every Debian's Python, as an administrator starts it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import drop_first
import pytest
from debian import Root
from userland_world import BUNDLE, Userland

from remedies import catalogue
from remedies.lab import ruleset
from remedies.lab.world import Options

NAT = "add table ip n\nadd chain ip n p { type nat hook postrouting priority 100; }\n"
REPORTS = ("csv", "json", "jsonl", "markdown", "nagios", "sarif")
"""The formats that need no library."""
RULE = "add rule ip n p masquerade\n"


@pytest.fixture(scope="module")
def world(release: Root, bundle: Path) -> Iterator[Userland]:
    with Userland("userland", Options(), release, bundle, plain=True) as made:
        made.sh("nft", "-f", "-", stdin=NAT + RULE)
        settings = made.root / "etc/remedy/remedy.conf"
        settings.parent.mkdir(exist_ok=True)
        settings.write_text(
            f"[remedy]\npolicy = {made.policy(Path(drop_first.YAML).read_text())}\n"
        )
        yield made


def remedy(world: Userland, *words: str, code: int | None = 0) -> str:
    """Run a command line with the userland's Python and nothing beside it."""
    return world.sh("python3", "-I", "-S", BUNDLE, *words, code=code)


def test_doctor_misses_nothing_it_needs(world: Userland) -> None:
    states = {
        c["name"]: c["state"] for c in json.loads(remedy(world, "doctor", "--json"))["checks"]
    }
    assert "no" not in states.values()
    assert {name for name, state in states.items() if state == "optional"} == {"python-iptables"}


def test_every_condition_and_fix_explains_itself(world: Userland) -> None:
    for name in (*catalogue.condition_ids(), *catalogue.fix_ids()):
        assert name in world.command("explain", name)


def test_looking_changes_nothing(world: Userland) -> None:
    before = {**ruleset.dump(world), **world.files()}
    for words, said in (
        (["list"], "tcp-invalid-reset"),
        (["scan", "--window", "0"], "exposed   tcp-invalid-reset"),
        (["plan", "--window", "0"], "table inet remedy_invalid_drop {"),
        (["apply", "--dry-run", "--window", "0"], "1 to create."),
        (["status"], ""),
        (["history"], "empty"),
        (["audit", "verify"], ""),
        (["scan", "--all-netns", "--window", "0"], "tcp-invalid-reset"),
        (["trace", "--for", "100ms"], ""),
        *(
            (["report", "-o", f"{name}:-", "--window", "0"], "tcp-invalid-reset")
            for name in REPORTS
        ),
        (["--help"], "rollback"),
    ):
        assert said in world.command(*words)
    assert ruleset.difference(before, {**ruleset.dump(world), **world.files()}) == ""


def test_an_applied_change_is_told_verified_and_undone(world: Userland) -> None:
    before = {**ruleset.dump(world), **world.files()}
    remedy(world, "apply", "--yes", "--window", "0", "--confirm-timeout", "60s")
    assert "confirmed" in remedy(world, "confirm").lower()
    made = json.loads(world.command("history", "--json"))["transactions"]
    (txn,) = [entry["transaction"] for entry in made]
    assert txn in world.command("show", txn)
    assert "packets output: 0" in world.command("status")
    world.command("verify", "--window", "0")
    world.command("audit", "verify")
    undo = world.root / "var/lib/remedy/host" / f"undo-{txn}.sh"
    assert undo.exists(), list(undo.parent.iterdir())
    world.command("rollback", "--yes")
    assert ruleset.difference(before, {**ruleset.dump(world), **world.files()}) == ""


def test_an_unconfirmed_change_is_reverted(world: Userland) -> None:
    before = ruleset.dump(world)
    words = ("--yes", "--window", "0", "--confirm-timeout", "1s", "--wait")
    world.command("apply", *words, code=7)
    assert ruleset.difference(before, ruleset.dump(world)) == ""


def test_an_error_is_one_line_and_all_of_it_on_demand(world: Userland) -> None:
    words = ("--netns", "nowhere", "scan")
    said = remedy(world, *words, code=None)
    assert said.startswith("remedy: no network namespace 'nowhere'")
    assert said.count("\n") == 1
    traced = remedy(world, "-vv", *words, code=None)
    assert traced.startswith("Traceback (most recent call last):")
    assert traced.endswith(said)
