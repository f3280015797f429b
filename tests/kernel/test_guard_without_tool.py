"""Ways back for later: the shell script without this tool, and a journal of an older version."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty import Host

from remedies.transaction import undofile
from remedies.transaction.journal import records

DATA = Path(__file__).parent.parent / "data"


@pytest.mark.parametrize(
    ("backend", "fix"),
    [
        ("nftables", "invalid-drop"),
        ("iptables-nft", "invalid-drop"),
        ("iptables-legacy", "invalid-drop"),
        ("nftables", "tcp-be-liberal"),
    ],
)
def test_the_script_undoes_a_transaction(
    netns: Callable[..., str], tmp_path: Path, backend: str, fix: str
) -> None:
    host = Host(netns("script"), tmp_path, backend, fix).prepare()
    before = host.dump()
    assert host.run("apply", "--yes").code == 0
    (script,) = host.state.glob("undo-*.sh")
    assert script.stat().st_mode & 0o777 == 0o600
    assert host.sh("sh", str(script)) == ""
    after = host.dump()
    if backend == "iptables-nft":  # the table that our chain needed may stay, empty
        assert "REMEDY" not in after.pop("nft")
        del before["nft"]
    assert after == before
    assert host.run("rollback", "--yes").code == 0
    assert list(host.state.glob("undo-*.sh")) == []


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


def test_values_cannot_break_out_of_the_script(tmp_path: Path) -> None:
    """Quotes, newlines, dollars and a fake end: every byte of a file comes back."""
    from remedies.model import Change
    from remedies.resources import file

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


def test_a_journal_of_version_1_is_rolled_back(netns: Callable[..., str], tmp_path: Path) -> None:
    """What the first version wrote: a table, a sysctl, and a tail that was torn and closed."""
    old = DATA / "journal-v1" / "journal.jsonl"
    assert {r.v for r in records(str(old))} == {1}
    host = Host(netns("old"), tmp_path, "nftables", "invalid-drop").prepare()
    before = host.dump()
    from remedies import netns as namespaces
    from remedies.transaction import ledger
    from remedies.transaction.host import HostResources

    (entry,) = ledger.transactions(records(str(old))).values()
    with namespaces.inside(host.ns):
        for change in entry.begin.changes:
            HostResources().write(change.resource, change.after)
    assert host.dump() != before
    host.state.mkdir(parents=True, mode=0o700)
    shutil.copy(old, host.state)
    assert host.run("status").code == 0
    done = host.run("rollback", "--yes")
    assert done.code == 0, done.out
    assert host.dump() == before
    versions = [r.v for r in records(str(host.state / "journal.jsonl"))]
    assert versions[:5] == [1] * 5
    assert set(versions[5:]) == {2}
