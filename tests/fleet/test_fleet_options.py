"""What is undone and what goes on when a rollout goes wrong, and what is kept by hand."""

from __future__ import annotations

import json
from typing import Any

from fleet_host import BUNDLE, TABLE
from light_fleet import Fleet
from test_fleet_rollout import programs
from waiting import eventually


def test_what_is_undone_and_how_much_may_fail_is_as_asked(fleet: Fleet) -> None:
    """Three hosts in a row; the second one's fault stays."""
    hosts = [fleet.host(name) for name in ("a", "b-broken", "c")]
    hosts[1].agent(f"delete table inet {TABLE}\n", "")

    # With --yes each group's diff is shown, and then that is what is applied.
    words = ["apply", "-i", fleet.inventory(), "--limit", "a", "--run-dir", "runs", "--plain"]
    code, out, err = fleet.call("remedy", "fleet", *words, "--yes")
    assert code == 0, out + err
    shown, confirmed = out.find("table inet remedy_invalid_drop {"), out.find("1 confirmed")
    assert 0 < shown < confirmed, out
    log = _newest(fleet, "apply")
    assert log["hosts"] == ["a"]
    assert "/approved" in log["variables"]["remedy_plans"]

    # One host of two in the first batch may fail: it comes to its end, and so does the whole.
    words = ["--run-dir", "runs", "--confirm-timeout", "40s", "--batch", "2"]
    code, said, output = fleet.remedy("apply", "--yes", *words, "--max-fail-percentage", "50")
    assert code == 3, output
    assert {name: word["state"] for name, word in said.items()} == {
        "a": "untouched", "b-broken": "reverted", "c": "confirmed",
    }, output  # fmt: skip
    tail = json.loads(output.splitlines()[-1])
    assert tail["halted"] is None
    assert [host.has_table() for host in hosts] == [True, False, True]

    # A run's rollback undoes what that run applied, and no more.
    run = str(tail["folder"]).rpartition("/")[2]
    code, out, err = fleet.call(
        "remedy", "fleet", "rollback", "--run", run, "--run-dir", "runs", "--yes", "--json"
    )
    assert code == 0, out + err
    told = [json.loads(line) for line in out.splitlines()]
    assert {r["host"]: r["state"] for r in told if r["kind"] == "host"} == {"c": "reverted"}
    assert [host.has_table() for host in hosts] == [True, False, False]

    # It keeps a log of its own, which a report tells of; there is nothing in it to go on with.
    log = _newest(fleet, "rollback")
    assert log["hosts"] == ["c"]
    words = ["report", "--fleet", log["id"], "--run-dir", "runs", "-o", "json:-"]
    code, out, err = fleet.call("remedy", *words)
    assert code == 0, err
    (host,) = json.loads(out)["hosts"]
    assert (host["rollout"]["state"], host["rollout"]["exit"]) == ("reverted", 0)
    assert {deed["kind"] for deed in host["deeds"]} == {"apply", "rollback"}
    code, out, err = fleet.call("remedy", "fleet", "apply", "--resume", log["id"],
                                "--run-dir", "runs", "--yes")  # fmt: skip
    assert (code, "is a rollback" in err) == (64, True), err


def _newest(fleet: Fleet, action: str) -> dict[str, Any]:
    """Return what the newest run of an action was asked, with its id."""
    runs = sorted((fleet.folder / "runs").iterdir())
    found = [{"id": r.name, **json.loads((r / "run.json").read_text())} for r in runs]
    return [one for one in found if one["action"] == action][-1]


def test_what_waits_on_hosts_is_kept_by_a_person_over_the_fleet(fleet: Fleet) -> None:
    hosts = [fleet.host(name) for name in ("one", "two")]
    fleet.host("idle", exposed=False)
    for host in hosts:
        host.on("sh", "-c", f"{BUNDLE} apply --yes --no-wait --window 0 --confirm-timeout 120s")
    assert all(programs(host) for host in hosts), "a guard each"
    code, said, output = fleet.remedy("confirm", "--yes", "--run-dir", "runs")
    assert code == 0, output
    assert {name: (word["state"], word["rc"]) for name, word in said.items()} == {
        "one": ("confirmed", 0), "two": ("confirmed", 0), "idle": ("untouched", 0),
    }, output  # fmt: skip
    log = _newest(fleet, "confirm")
    assert sorted(log["hosts"]) == ["idle", "one", "two"]
    lines = (fleet.folder / "runs" / log["id"] / "states.jsonl").read_text().splitlines()
    words = [json.loads(line) for line in lines]
    assert [w["state"] for w in words if w["host"] == "two"] == ["unreachable", "confirmed"]
    eventually(lambda: not any(programs(host) for host in hosts))
    for host in hosts:
        rows = json.loads(host.on("sh", "-c", f"{BUNDLE} history --json"))["transactions"]
        assert [row["outcome"] for row in rows] == ["confirmed"]
        in_force = json.loads(host.on("sh", "-c", f"{BUNDLE} status --json"))["in_force"]
        assert [entry["state"] for entry in in_force] == ["ours"]
