"""Rules under our names that no journal knows: said, and removed when asked, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_shapes import departures
from faulty import Host


@pytest.mark.parametrize("backend", ["nftables", "iptables-nft", "iptables-legacy"])
def test_what_a_lost_journal_leaves_is_said_and_removed_or_adopted(
    netns: Callable[..., str], tmp_path: Path, backend: str
) -> None:
    host = Host(netns("nobodys"), tmp_path, backend).prepare()
    assert host.run("status").code == 0
    assert host.run("apply", "--yes").code == 0
    assert host.run("rollback", "--yes").code == 0
    before = host.dump()
    assert host.run("apply", "--yes").code == 0
    assert host.run("status").code == 0
    shutil.rmtree(host.state.parent)
    told = host.run("status")
    assert told.code == 2, told.out
    assert "unowned" in told.out
    assert "confirm --unowned" in told.out
    found = host.run("status", "--json").json["unowned"]
    written = before.keys() ^ host.dump()
    assert len(written) in (3, 4)
    files = sorted(f"file:{name.removeprefix(str(host.folder / 'root'))}" for name in written)
    assert [a for a in found if a.startswith("file:")] == files
    assert [a for a in found if not a.startswith("file:")] == (
        ["nft:inet/remedy_invalid_drop"]
        if backend == "nftables"
        else ["ip6tables:mangle/REMEDY-INVALID", "iptables:mangle/REMEDY-INVALID"]
    )
    doctor = host.run("doctor")
    assert f"not in this journal: {', '.join(found)}" in doctor.out, doctor.out
    there = host.dump()
    shown = host.run("rollback", "--unowned", "--dry-run")
    assert all(address in shown.out for address in found), shown.out
    assert host.dump() == there
    assert host.run("rollback", "--yes").code == 0
    assert host.dump() == there, "without the word nothing of it is touched"
    done = host.run("rollback", "--unowned", "--yes", "--json")
    assert done.code == 0, done.out
    (name,) = done.json["transactions"]
    assert host.dump() == before
    assert host.run("status").code == 0
    assert "all are in this journal" in host.run("doctor").out
    assert all(address in host.run("show", name).out for address in found)
    assert host.run("rollback", "--unowned", "--yes").code == 0
    assert host.run("apply", "--yes").code == 0
    there = host.dump()
    shutil.rmtree(host.state.parent)
    assert all(address in host.run("confirm", "--unowned", "-n").out for address in found)
    assert host.run("status").code == 2, "a dry run adopts nothing"
    adopted = host.run("confirm", "--unowned", "--json")
    assert adopted.code == 0, adopted.out
    assert departures(adopted.json) == []
    assert sorted(adopted.json["resources"]) == sorted(found)
    assert host.dump() == there
    assert host.run("confirm", "--unowned").out.startswith("Nothing to adopt")
    status = host.run("status", "--json")
    assert (status.code, status.json["unowned"]) == (0, []), status.out
    assert {entry["state"] for entry in status.json["in_force"]} == {"ours"}
    name = adopted.json["transaction"]
    assert host.run("apply", "--yes", "--json").json["outcome"] == "nothing"
    assert "adopted" in host.run("show", name).out
    assert host.run("audit", "verify").code == 0
    assert len(list(host.state.glob(f"undo-{name}.sh"))) == 1
    assert host.run("rollback", name, "--yes").code == 0
    assert host.dump() == before
    assert host.run("status").code == 0


def test_what_another_state_directory_holds_is_said_too(
    netns: Callable[..., str], tmp_path: Path
) -> None:
    host = Host(netns("nobodys"), tmp_path).prepare()
    assert host.run("apply", "--yes").code == 0
    other = Host(host.ns, tmp_path / "other")
    other.folder.mkdir()
    shutil.copy(host.folder / "policy.yaml", other.folder)
    told = other.run("status")
    assert told.code == 2
    assert "another --state-dir" in told.out
    host.sh("nft", "add table inet remedyx; add table bridge remedy_bridge; add table inet remedy_")
    assert other.run("status", "--json").json["unowned"] == ["nft:inet/remedy_invalid_drop"]
