"""Approved plans: what is saved is what is applied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builder import change
from builder import plan as made

from remedies import codec
from remedies.errors import InputError
from remedies.fleet import plans, request
from remedies.fleet.plans import Index
from remedies.model import Change
from remedies.planning import planfile
from remedies.values import replace

SYSCTL = change("sysctl:net.netfilter.nf_conntrack_tcp_be_liberal", "0", "1", fix="tcp-be-liberal")
TABLE = change("nft:inet/remedy_invalid_drop", None, "t", fix="invalid-drop")


def plan(*changes: Change) -> str:
    return json.dumps(planfile.plan_plain(made(*changes), {}))


def saved(folder: Path) -> None:
    entries = {
        "a/../b": plans.save(str(folder), "a/../b", plan(SYSCTL, TABLE), "{}"),
        "two": plans.save(str(folder), "two", plan(SYSCTL), "{}"),
        "three": plans.save(str(folder), "three", plan(SYSCTL), "{}"),
        "done": plans.save(str(folder), "done", plan(), "{}"),
    }
    Index.of(entries, {"away": "not reached"}).write(str(folder))


def test_hosts_with_the_same_change_are_together_the_largest_group_first(tmp_path: Path) -> None:
    saved(tmp_path)
    index = Index.read(str(tmp_path))
    changes = {host: plans.saved(str(tmp_path), entry) for host, entry in index.hosts.items()}
    found = plans.grouped(index.hosts, changes)
    assert [(group.summary, group.hosts) for group in found] == [
        (("nf_conntrack_tcp_be_liberal 0 -> 1",), ("three", "two")),
        (("nf_conntrack_tcp_be_liberal 0 -> 1", "+ nft:inet/remedy_invalid_drop"), ("a/../b",)),
        ((), ("done",)),
    ]
    (change,) = found[0].changes
    assert change.resource == SYSCTL.resource
    assert change.diff.splitlines()[3:] == [
        "-net.netfilter.nf_conntrack_tcp_be_liberal = 0",
        "+net.netfilter.nf_conntrack_tcp_be_liberal = 1",
    ]
    assert index.without == {"away": "not reached"}
    held = request.approved(str(tmp_path), "a/../b")
    assert held is not None
    assert json.loads(held.plan)["changes"] == codec.encode((SYSCTL, TABLE))
    assert request.approved(str(tmp_path), "away") is None
    assert {p.parent.parent for p in tmp_path.glob("*/*.json")} == {tmp_path}


def test_the_diff_is_made_of_what_is_acted_on(tmp_path: Path) -> None:
    """Neither the diff in a plan nor the group in the index says what hosts have in common."""
    changes = (replace(SYSCTL, diff="+nothing at all"), replace(SYSCTL, after="9"))
    entries = {
        name: replace(plans.save(str(tmp_path), name, plan(change), "{}"), group="same")
        for name, change in zip(("one", "two"), changes, strict=True)
    }
    shown = {host: plans.saved(str(tmp_path), entry) for host, entry in entries.items()}
    assert [change.diff.splitlines()[-1:] for (change,) in shown.values()] == [
        ["+net.netfilter.nf_conntrack_tcp_be_liberal = 1"],
        ["+net.netfilter.nf_conntrack_tcp_be_liberal = 9"],
    ]
    found = plans.grouped(entries, shown)
    assert [group.hosts for group in found] == [("one",), ("two",)]


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        ({"kind": "scan"}, "not a plan"),
        ({"plan_id": "0" * 16}, "edited"),
        ({"changes": [codec.encode(replace(SYSCTL, resource="sysctl:kernel.panic"))]}, "write"),
        ({"changes": [codec.encode(replace(SYSCTL, fix="f"))]}, "no fix is called 'f'"),
        ({"changes": [{**codec.encode(SYSCTL), "risk": "none"}]}, "risk"),
        ({"changes": [{"resource": 7}]}, "changes"),
        ({"more": 1}, "more"),
    ],
)
def test_a_plan_that_a_host_made_up_is_not_saved(
    tmp_path: Path, edit: dict[str, Any], why: str
) -> None:
    text = json.dumps({**json.loads(plan(SYSCTL)), **edit})
    with pytest.raises(InputError, match=f"plan of h1.*{why}"):
        plans.save(str(tmp_path), "h1", text, "{}")
    assert not list(tmp_path.iterdir())


def test_what_was_altered_or_is_missing_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "plans" / "two.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(InputError, match="not what was approved"):
        request.approved(str(tmp_path), "two")
    path.unlink()
    with pytest.raises(InputError, match="No such file"):
        request.approved(str(tmp_path), "two")


@pytest.mark.parametrize(
    ("old", "new"),
    [("plans/two.json", "../two.json"), ("plans/two.json", "/etc/shadow"),
     ("fleet-plan", "plan"), ('"plan_id"', '"other"')],
)  # fmt: skip
def test_an_index_that_is_not_ours_is_refused(tmp_path: Path, old: str, new: str) -> None:
    saved(tmp_path)
    index = tmp_path / "index.json"
    index.write_text(index.read_text().replace(old, new))
    with pytest.raises(InputError):
        Index.read(str(tmp_path))


def test_parameters_of_the_inventory_lie_over_the_policy(tmp_path: Path) -> None:
    given = request.Order(params={"conntrack-pressure": {}})
    compiled = json.loads(given.compiled_policy(str(tmp_path)))
    assert compiled["policy"]["names"] == ["default", "remedy_params"]
    assert compiled["policy"]["rules"]["conntrack-pressure"]["mode"] == "advise"


def test_a_policy_file_is_found_beside_the_inventory(tmp_path: Path) -> None:
    folder = tmp_path / "inventory"
    folder.mkdir()
    mine = folder / "mine.yaml"
    mine.write_text("apiVersion: remedy/v1\nname: mine\n")
    mine.chmod(0o600)
    found = request.Order(policy=("mine.yaml",), beside=(str(tmp_path), str(folder)))
    assert json.loads(found.compiled_policy(str(tmp_path)))["policy"]["names"] == ["mine"]
