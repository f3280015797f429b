"""A journal with damage in its middle: every verb says how to go on, and the repair does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_shapes import departures
from faulty import Host

from remedies.transaction.journal import NAME


def kinds(host: Host) -> list[str]:
    return [json.loads(line)["kind"] for line in (host.state / NAME).read_text().splitlines()]


def lose(host: Host, line: int) -> bytes:
    """Overwrite a line with zeros, its end too, as a lost block does; return what is left."""
    path = host.state / NAME
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = bytes(len(lines[line]))
    path.write_bytes(b"".join(lines))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("backend", "kind"),
    [
        ("nftables", "begin"),
        ("nftables", "written"),
        ("iptables-nft", "begin"),
        ("nftables", "end"),
    ],
)
def test_whatever_record_is_lost_what_is_in_force_can_be_undone(
    netns: Callable[..., str], tmp_path: Path, backend: str, kind: str
) -> None:
    host = Host(netns("lost"), tmp_path, backend).prepare()
    assert host.run("status").code == 0
    assert host.run("apply", "--yes").code == 0
    assert host.run("rollback", "--yes").code == 0
    before = host.dump()
    applied = host.run("apply", "--yes", "--json").json["transaction"]
    there = host.dump()
    last = len(kinds(host)) - 1 - kinds(host)[::-1].index("begin")
    number = kinds(host).index(kind, last)
    left = lose(host, number)
    where = f"{NAME}:{number + 1}: "
    where += (
        "the last record cannot be read" if kind == "end" else "not a journal record, from byte"
    )
    for verb in ("status", "rollback", "apply", *(() if kind == "end" else ("history",))):
        told = host.run(verb, *(["--yes"] if verb in ("rollback", "apply") else []))
        assert told.code == 65, told.out
        assert where in told.out
        assert "'remedy audit repair --dry-run' shows what can be read" in told.out
    shown = host.run("audit", "repair", "--dry-run")
    assert shown.code == 0, shown.out
    assert f"lost: {NAME}:{number + 1}:" in shown.out
    assert ("lost: transaction" in shown.out) == (kind == "begin"), shown.out
    assert departures(host.run("audit", "repair", "--dry-run", "--json").json) == []
    assert host.run("audit", "repair").code == 64, "nobody can be asked"
    assert host.dump() == there
    assert host.state.joinpath(NAME).read_bytes() == left
    assert len(list(host.state.glob("journal*"))) == 1
    done = host.run("audit", "repair", "--yes", "--json")
    assert done.code == 0, done.out
    assert departures(done.json) == []
    assert done.json["damaged"] == {NAME: hashlib.sha256(left).hexdigest()}
    assert host.dump() == there, "the host is as it was"
    assert host.state.joinpath(NAME).read_bytes() == left, "and so is the damaged file"
    assert host.run("audit", "repair").out.startswith("Nothing to repair")
    status = host.run("status", "--json")
    assert status.code == 0, status.out
    held = {entry["resource"] for entry in status.json["in_force"]}
    assert {entry["state"] for entry in status.json["in_force"]} == {"ours"}
    assert held == {*done.json["in_force"], *done.json["unowned"]}
    assert departures(host.run("audit", "verify", "--json").json) == []
    audited = host.run("audit", "verify")
    assert audited.code == 65
    assert (
        f"repaired since: record {number + 1} cannot be read ({NAME}:{number + 1})" in audited.out
    )
    assert "the chain is intact since that repair" in audited.out
    if kind == "begin":
        (script,) = done.json["scripts"]
        assert Path(script).exists()
        undone = done.json["adopted"]
    else:
        assert host.run("show", applied).code == 0
        undone = applied
    names = [t["transaction"] for t in host.run("history", "--json").json["transactions"]]
    assert len(names) == len(set(names)) == 3
    assert host.run("rollback", undone, "--yes").code == 0
    assert host.dump() == before
    assert host.run("apply", "--yes").code == 0
    assert host.run("rollback", "--yes").code == 0
    assert host.dump() == before


def test_a_lost_rollback_is_seen_on_the_host(netns: Callable[..., str], tmp_path: Path) -> None:
    host = Host(netns("lost"), tmp_path, "nftables", "tcp-be-liberal").prepare()
    before = host.dump()
    assert host.run("apply", "--yes").code == 0
    assert host.run("rollback", "--yes").code == 0
    begun = len(kinds(host)) - 1 - kinds(host)[::-1].index("begin")
    lose(host, begun)
    done = host.run("audit", "repair", "--yes", "--json")
    assert done.code == 0, done.out
    assert done.json["in_force"] == done.json["unowned"] == []
    assert any("is not in force any more" in note for note in done.json["notes"])
    assert host.dump() == before
    assert host.run("status").code == 0
    assert host.run("rollback", "--yes").code == 0
    assert host.dump() == before


def test_no_repair_while_a_guard_is_at_work(netns: Callable[..., str], tmp_path: Path) -> None:
    host = Host(netns("lost"), tmp_path).prepare()
    before = host.dump()
    assert host.run("apply", "--yes", "--confirm-timeout", "5s").code == 0
    lose(host, 0)
    refused = host.run("audit", "repair", "--yes")
    assert refused.code == 6, refused.out
    assert "is at work (pid" in refused.out
    host.unguarded()
    assert host.dump() == before
    assert host.run("audit", "repair", "--yes").code == 0
    assert host.run("status").code == 0
    assert host.dump() == before
