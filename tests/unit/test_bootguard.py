"""What undoes half-written boot files at the next boot: its script, run as a boot would run it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from builder import change

from remedies.errors import RemedyError
from remedies.resources import file
from remedies.transaction import bootguard
from remedies.transaction.journal import Journal

TXN = "20260101T000000Z-0000abcd"
DROP_IN = "/etc/sysctl.d/99-zz-remedy-x.conf"
DATA = "/etc/remedy/boot/x.nft"
RESTORE = "/etc/systemd/system/remedy-restore@x.service"


CHANGES = (
    change(f"file:{DROP_IN}", "old\n", "new\n", boot=True),
    change(f"file:{DATA}", None, "data\n", boot=True),
    change(f"file:{RESTORE}", None, "unit\n", boot=True),
)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the state folder of a host that systemd runs, with what is there before us."""
    root, folder = tmp_path / "root", tmp_path / "state"
    monkeypatch.setattr(file, "ROOT", str(root))
    for name in ("etc/sysctl.d", "etc/systemd/system", "run/systemd/system"):
        (root / name).mkdir(parents=True)
    folder.mkdir(mode=0o700)
    file.write(DROP_IN, "old\n")
    with Journal(str(folder)) as journal:
        journal.append("begin", TXN)
    return folder


def left(state: Path) -> dict[str, str]:
    root = state.parent / "root"
    return {
        str(path)[len(str(root)) :]: path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def names(state: Path) -> list[str]:
    return sorted(path.name for path in state.iterdir())


def half(state: Path) -> None:
    """Arm, write two of three files, and begin a third."""
    bootguard.arm(str(state), TXN, CHANGES)
    file.write(DROP_IN, "new\n")
    file.write(DATA, "data\n")
    Path(file.ROOT + file.spare_of(RESTORE)).write_text("un")


def boot(state: Path) -> str:
    script = state / f"recover-{TXN}.sh"
    done = subprocess.run(["sh", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_a_state_folder_is_named_in_full(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(state.parent)
    bootguard.arm("state", TXN, CHANGES)
    assert f"ExecStart=/bin/sh {state}/recover-{TXN}.sh" in "".join(left(state).values())


def test_the_boot_puts_back_what_was_there_and_leaves_nothing(state: Path) -> None:
    before = left(state)
    half(state)
    units = left(state)
    service = units["/etc/systemd/system/remedy-recover.service"]
    assert f"ConditionPathExists={state}/recover-{TXN}.sh" in service
    assert "Before=remedy-restore@x.service\n" in service
    wants = units["/etc/systemd/system/multi-user.target.d/remedy-recover.conf"]
    assert wants == "[Unit]\nWants=remedy-recover.service\n"
    assert "was ended" in boot(state)
    assert left(state) == before
    assert names(state) == ["journal.jsonl"]
    assert not (state.parent / "root/etc/remedy").exists()


@pytest.mark.parametrize("torn", [False, True])
def test_an_end_on_record_is_believed_and_half_of_one_is_not(state: Path, torn: bool) -> None:
    half(state)
    file.write(RESTORE, "unit\n")
    with Journal(str(state)) as journal:
        journal.append("end", TXN, {"outcome": "applied"})
    if torn:
        path = state / "journal.jsonl"
        path.write_text(path.read_text()[:-20])
    assert ("had ended" in boot(state)) is not torn
    assert left(state)[DROP_IN] == ("old\n" if torn else "new\n")
    assert names(state) == ["journal.jsonl"]


def test_disarming_and_sweeping_take_it_away(state: Path) -> None:
    before = left(state)
    bootguard.arm(str(state), TXN, CHANGES)
    bootguard.sweep(str(state), {TXN})
    assert left(state) != before
    bootguard.sweep(str(state), ())
    assert left(state) == before
    bootguard.arm(str(state), TXN, CHANGES)
    bootguard.disarm(str(state), TXN)
    bootguard.disarm(str(state), TXN)
    assert left(state) == before
    assert names(state) == ["journal.jsonl"]


def test_what_cannot_be_armed_leaves_nothing(state: Path) -> None:
    before = left(state)
    (state.parent / "root/etc/systemd/system/multi-user.target.d").symlink_to("/")
    with pytest.raises(RemedyError):
        bootguard.arm(str(state), TXN, CHANGES)
    (state.parent / "root/etc/systemd/system/multi-user.target.d").unlink()
    bootguard.sweep(str(state), ())
    assert left(state) == before
    assert names(state) == ["journal.jsonl"]


def test_without_systemd_nothing_is_armed(state: Path) -> None:
    (state.parent / "root/run/systemd/system").rmdir()
    before = left(state)
    bootguard.arm(str(state), TXN, CHANGES)
    assert left(state) == before
    assert names(state) == ["journal.jsonl"]
