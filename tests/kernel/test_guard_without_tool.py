"""Ways back for later: the shell script without this tool, and a journal of an older version."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty import WORLDS, Host, standing

from remedies.fixes import invalid_drop
from remedies.model import Change
from remedies.namespaces import netns as namespaces
from remedies.resources import file, iptables
from remedies.rules import ours
from remedies.transaction import ledger, undofile
from remedies.transaction.host import HostResources
from remedies.transaction.journal import records
from remedies.transaction.record import VERSION

DATA = Path(__file__).parent.parent / "data"


@pytest.mark.parametrize(("backend", "fix"), WORLDS, ids=["-".join(world) for world in WORLDS])
def test_the_script_undoes_a_transaction(
    netns: Callable[..., str], tmp_path: Path, backend: str, fix: str
) -> None:
    with standing(backend, fix, netns, tmp_path) as host:
        before = host.dump()
        done = host.run("apply", "--yes")
        assert done.code == 0, done.out
        assert host.dump() != before
        (script,) = host.state.glob("undo-*.sh")
        assert script.stat().st_mode & 0o777 == 0o600
        assert host.sh("sh", str(script)) == ""
        after = host.dump()
        # As after a boot that has taken everything away: nothing to do is no error.
        assert host.sh("sh", str(script)) == ""
        assert host.dump() == after
        if backend == "iptables-nft":  # the table that our chain needed may stay, empty
            assert "REMEDY" not in after.pop("nft")
            del before["nft"]
        assert after == before
        assert host.run("rollback", "--yes").code == 0
        assert list(host.state.glob("undo-*.sh")) == []


@pytest.mark.parametrize(("old", "new"), [("legacy", "nft"), ("nft", "legacy")])
def test_the_script_puts_back_a_chain_of_the_other_variant(
    netns: Callable[..., str], old: str, new: str
) -> None:
    states = [
        ours.iptables_chain(invalid_drop.CHAIN, variant, ("INPUT",), (invalid_drop.LINE,))
        for variant in (old, new)
    ]
    change = Change(
        "invalid-drop",
        None,
        f"iptables:{invalid_drop.CHAIN}",
        "update",
        states[0],
        states[1],
        "",
        "lossy",
        "low",
        "",
    )
    script = undofile.script("t", "host", (change,))
    with namespaces.inside(netns("variant")):
        iptables.write(invalid_drop.CHAIN, states[0])
        iptables.write(invalid_drop.CHAIN, states[1])
        subprocess.run(["sh"], input=script, text=True, check=True, capture_output=True)
        assert iptables.same(invalid_drop.CHAIN, iptables.read(invalid_drop.CHAIN), states[0])


def test_the_script_goes_on_after_an_error_and_says_so(
    netns: Callable[..., str], tmp_path: Path
) -> None:
    host = Host(netns("script"), tmp_path, "nftables", "tcp-be-liberal").prepare()
    before = host.dump()
    assert host.run("apply", "--yes").code == 0
    (script,) = host.state.glob("undo-*.sh")
    text = script.read_text()
    script.write_text(text.replace("\n# sysctl:", "\ntry false\n# sysctl:"))
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{host.ns}", "sh", str(script)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "failed: false" in done.stderr) == (1, True)
    assert host.dump() == before


def test_where_nft_crashes_on_a_deletion_the_script_empties_the_table(
    netns: Callable[..., str], tmp_path: Path
) -> None:
    """As 1.0.6 does beside sets that 1.1.3 made, by SIGSEGV; it empties tables all the same."""
    host = Host(netns("script"), tmp_path, "nftables", "invalid-drop").prepare()
    assert host.run("apply", "--yes").code == 0
    assert "ct state invalid" in str(host.dump())
    (script,) = host.state.glob("undo-*.sh")
    old = tmp_path / "old/nft"
    old.parent.mkdir()
    real = shutil.which("nft")
    old.write_text(f'#!/bin/sh\ncase "$*" in *delete*) kill -SEGV $$;; esac\nexec {real} "$@"\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{host.ns}", "sh", str(script)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{old.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert (done.returncode, "inet remedy_invalid_drop: it is empty now" in done.stderr) == (
        1,
        True,
    )
    assert "ct state invalid" not in str(host.dump())


def test_values_cannot_break_out_of_the_script(tmp_path: Path) -> None:
    """Quotes, newlines, dollars and a fake end: every byte of a file comes back."""
    hostile = "a'b\"c $(touch pwned) `id` \\ \nEND-OF-REMEDY\ntouch pwned\n%s\n"
    target = tmp_path / "target"
    target.write_text("ours")
    change = Change("f", None, f"file:{target}", "update", hostile, "ours", "", "exact", "low", "")
    assert file.ROOT == ""
    undofile.write(str(tmp_path), "t", undofile.script("t", "host", (change,)))
    done = subprocess.run(
        ["sh", str(tmp_path / "undo-t.sh")], cwd=tmp_path, capture_output=True, check=False
    )
    assert (done.returncode, target.read_text()) == (0, hostile)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("version", "backend", "fix"),
    [(1, "nftables", "invalid-drop"), (2, "iptables-nft", "tcp-be-liberal")],
)
def test_a_journal_of_every_version_is_rolled_back(
    netns: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
    backend: str,
    fix: str,
) -> None:
    """The first: a table, a sysctl, and a tail that was torn and closed.

    The second: chains, a sysctl and their boot files, carried over by a checkpoint.
    """
    old = sorted((DATA / f"journal-v{version}").iterdir(), key=lambda path: len(path.name))
    before_us = list(records(str(old[0])))
    assert {r.v for r in before_us} == {version}
    host = Host(netns("old"), tmp_path, backend, fix).prepare()
    before = host.dump()
    (entry,) = ledger.transactions(before_us).values()
    monkeypatch.setattr(file, "ROOT", str(host.folder / "root"))
    with namespaces.inside(host.ns):
        for change in entry.begin.changes:
            HostResources().write(change.resource, change.after)
    assert host.dump() != before
    host.state.mkdir(parents=True, mode=0o700)
    for path in old:
        shutil.copy(path, host.state)
    status = host.run("status", "--json")
    assert {item["state"] for item in status.json["in_force"]} == {"ours"}
    done = host.run("rollback", "--yes")
    assert done.code == 0, done.out
    assert host.dump() == before
    after_us = list(records(str(host.state / "journal.jsonl")))
    assert after_us[: len(before_us)] == before_us
    assert {r.v for r in after_us[len(before_us) :]} == {VERSION}


def test_this_version_has_a_journal_among_them() -> None:
    assert (DATA / f"journal-v{VERSION}" / "journal.jsonl").exists()
