"""The way back without the tool: in which order, on disk in time, there for as long as needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from remedies.model import Change
from remedies.transaction import undofile


def change(key: str) -> Change:
    return Change("f", None, f"sysctl:{key}", "update", "0", "1", "", "exact", "low", "")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_change_is_put_back_first() -> None:
    text = undofile.script("t", "host", tuple(change(f"net.ipv4.{x}") for x in "abc"))
    lines = [line.split()[1] for line in text.splitlines() if line.startswith("put /proc")]
    assert lines == [f"/proc/sys/net/ipv4/{name}" for name in "cba"]


def test_it_is_on_disk_once_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, int]] = []

    def noted(descriptor: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", noted)
    undofile.write(str(tmp_path), "t", "exit 0\n")
    assert (str(tmp_path / "undo-t.sh"), 7) in synced


def test_nothing_that_stands_there_already_is_written_over(tmp_path: Path) -> None:
    undofile.write(str(tmp_path), "t", "first\n")
    with pytest.raises(FileExistsError):
        undofile.write(str(tmp_path), "t", "second\n")
    assert (tmp_path / "undo-t.sh").read_text() == "first\n"


def test_sweeping_takes_what_is_over_and_nothing_else(tmp_path: Path) -> None:
    for txn in ("stands", "over"):
        undofile.write(str(tmp_path), txn, "")
    for other in ("journal.jsonl", "undo-notes.txt", "lock"):
        (tmp_path / other).touch()
    undofile.sweep(str(tmp_path), {"stands"})
    assert names(tmp_path) == ["journal.jsonl", "lock", "undo-notes.txt", "undo-stands.sh"]


def test_removing_one_that_is_gone_is_done(tmp_path: Path) -> None:
    undofile.remove(str(tmp_path), "t")
    assert names(tmp_path) == []
