"""The journal on a real file: chained, append-only, torn tails closed, alterations named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from remedies.errors import InputError, RemedyError
from remedies.transaction.journal import Journal, records


def filled(folder: Path, count: int = 3) -> Path:
    with Journal(str(folder)) as journal:
        for number in range(count):
            journal.append("begin", f"t{number}", {"n": number})
    return folder / "journal.jsonl"


def test_records_come_back_in_order_and_chained(tmp_path: Path) -> None:
    found = list(records(str(filled(tmp_path))))
    assert [r.seq for r in found] == [1, 2, 3]
    assert [r.data["n"] for r in found] == [0, 1, 2]
    assert found[1].prev == found[0].hash


def test_no_journal_holds_no_records(tmp_path: Path) -> None:
    assert list(records(str(tmp_path / "journal.jsonl"))) == []


def test_it_is_private_and_opened_again_it_goes_on(tmp_path: Path) -> None:
    path = filled(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    with Journal(str(tmp_path)) as journal:
        assert journal.append("end", "t2").seq == 4
    assert len(list(records(str(path)))) == 4


def test_a_record_that_lacks_only_its_newline_counts(tmp_path: Path) -> None:
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with Journal(str(tmp_path)) as journal:
        journal.append("begin", "after", {})
    assert [r.seq for r in records(str(path))] == [1, 2, 3, 4]


@pytest.mark.parametrize("cut", [2, 5, 40])
def test_a_torn_tail_is_closed_and_nothing_is_cut_off(tmp_path: Path, cut: int) -> None:
    path = filled(tmp_path)
    whole = path.read_bytes()
    torn = whole[:-cut]
    path.write_bytes(torn)
    assert [r.seq for r in records(str(path))] == [1, 2]
    with Journal(str(tmp_path)) as journal:
        journal.append("begin", "after", {})
    assert path.read_bytes().startswith(torn)
    assert [r.kind for r in records(str(path))] == ["begin", "begin", "torn", "begin"]


def tampered(path: Path, number: int, line: dict[str, object]) -> None:
    lines = path.read_text().splitlines()
    lines[number] = json.dumps(line)
    path.write_text("\n".join(lines) + "\n")


def test_an_altered_record_is_named(tmp_path: Path) -> None:
    path = filled(tmp_path)
    line = json.loads(path.read_text().splitlines()[1])
    line["data"]["n"] = 7
    tampered(path, 1, line)
    with pytest.raises(InputError, match=r"journal.jsonl:2: record 2 was altered"):
        list(records(str(path)))


def test_a_deleted_and_a_moved_record_are_named(tmp_path: Path) -> None:
    path = filled(tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[2]]) + "\n")
    with pytest.raises(InputError, match=r":2: record 3 was altered or moved"):
        list(records(str(path)))
    path.write_text("\n".join([lines[1], lines[0]]) + "\n")
    with pytest.raises(InputError, match=r":1: record 2 was altered or moved"):
        list(records(str(path)))


def test_garbage_between_records_is_named(tmp_path: Path) -> None:
    path = filled(tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "garbage", *lines[1:]]) + "\n")
    with pytest.raises(InputError, match=r":2: not a journal record"):
        list(records(str(path)))


def test_a_newer_journal_is_not_guessed_at(tmp_path: Path) -> None:
    path = filled(tmp_path, 1)
    line = json.loads(path.read_text())
    line["v"] = 99
    tampered(path, 0, line)
    with pytest.raises(RemedyError, match="newer remedy"):
        list(records(str(path)))


def test_a_symlink_in_its_place_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch()
    os.symlink(target, tmp_path / "journal.jsonl")
    with pytest.raises(OSError, match="symbolic links"):
        Journal(str(tmp_path))


def test_a_full_disk_raises_and_the_journal_stays_good() -> None:
    with pytest.raises(OSError, match="No space left"), Full() as journal:
        journal.append("begin", "t", {})


class Full(Journal):
    """A journal whose file is /dev/full: the kernel's own ENOSPC."""

    def __init__(self) -> None:
        self.path = "/dev/full"
        self._descriptor = os.open(self.path, os.O_WRONLY)
        self._seq, self._last = 0, "0" * 64
