"""The journal on a real file: chained, append-only, torn tails closed, alterations named."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remedies.errors import InputError, NotPermitted, RemedyError
from remedies.transaction.journal import NAME, Journal, latest, records
from remedies.transaction.record import digest
from remedies.transaction.segments import segments


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


@pytest.mark.parametrize("cut", [1, 2, 5, 40])
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


def forged(path: Path, number: int, **changed: object) -> None:
    """Change one record and give it the hash that it then has."""
    plain = json.loads(path.read_text().splitlines()[number]) | changed
    tampered(path, number, {**plain, "hash": digest(plain)})


def test_a_record_with_a_hash_of_its_own_is_named_by_the_one_after_it(tmp_path: Path) -> None:
    path = filled(tmp_path)
    forged(path, 1, data={"n": 7})
    with pytest.raises(InputError, match=r":3: record 3 was altered or moved"):
        list(records(str(path)))


def test_a_number_that_is_not_the_next_is_named(tmp_path: Path) -> None:
    path = filled(tmp_path)
    forged(path, 2, seq=4)
    with pytest.raises(InputError, match=r":3: record 4 was altered or moved"):
        list(records(str(path)))


def test_what_is_torn_must_be_what_was_torn(tmp_path: Path) -> None:
    """A record garbled after the fact does not pass for a torn one."""
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    with Journal(str(tmp_path)) as journal:
        journal.append("begin", "after", {})
    lines = path.read_text().splitlines()
    lines[2] = lines[2].replace('"n":2', '"n":3')
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r":3: not a journal record"):
        list(records(str(path)))


def test_a_new_segment_is_on_disk_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    path = filled(tmp_path, 1)
    assert synced == [str(tmp_path), str(path)]
    filled(tmp_path, 1)
    assert synced == [str(tmp_path), str(path), str(path)]


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
    with pytest.raises(NotPermitted, match="symbolic links"):
        Journal(str(tmp_path))


def test_a_torn_tail_without_its_last_newline_only_is_torn_too(tmp_path: Path) -> None:
    """Nobody was told that it is on disk, and whoever waited for it went another way since."""
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert [r.seq for r in records(str(path))] == [1, 2]
    with Journal(str(tmp_path)) as journal:
        assert journal.append("begin", "after", {}).seq == 4
    assert [r.kind for r in records(str(path))] == ["begin", "begin", "torn", "begin"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[int]:
    """Let no file grow past 1 MiB (RLIMIT_FSIZE), as a full disk does: the kernel writes a part.

    What the test runner itself prints into a file stays below that.
    """
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, previous[1]))
    yield 1 << 20
    resource.setrlimit(resource.RLIMIT_FSIZE, previous)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_again_and_again_and_the_journal_stays_good(tmp_path: Path, small: int) -> None:
    """Each attempt may leave a fragment; all of them are closed by one record in the end."""
    path = filled(tmp_path)
    filling = small - path.stat().st_size
    with Journal(str(tmp_path)) as journal:
        for _ in range(3):
            with pytest.raises(OSError, match=r"No space left|File too large"):
                journal.append("begin", "big", {"text": "x" * filling})
    for _ in range(2):  # not even what closes the tail fits
        with Journal(str(tmp_path)) as journal, pytest.raises(OSError, match=r"No space|too large"):
            journal.append("begin", "t", {})
    assert [r.seq for r in records(str(path))] == [1, 2, 3]
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, resource.RLIM_INFINITY))
    before = path.read_bytes()
    with Journal(str(tmp_path)) as journal:
        journal.append("begin", "after", {})
    assert path.read_bytes().startswith(before)
    assert [r.kind for r in records(str(path))] == ["begin"] * 3 + ["torn", "begin"]


def test_fragments_in_a_row_are_closed_together(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"v":2,"se#\n#\n{"v":2,"seq":4,"kind":"tor')
    assert [r.seq for r in records(str(path))] == [1, 2, 3]
    with Journal(str(tmp_path)) as journal:
        journal.append("begin", "after", {})
    assert [r.seq for r in records(str(path))] == [1, 2, 3, 4, 5]


def test_a_record_whose_sync_failed_keeps_its_place_in_the_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be on disk or not: the next append looks instead of guessing."""

    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    path = filled(tmp_path)
    with Journal(str(tmp_path)) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", broken)
            with pytest.raises(OSError, match="Input/output"):
                journal.append("begin", "t", {})
        journal.append("end", "t", {})
    assert [r.seq for r in records(str(path))] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("size", [1, 64, 512])
def test_a_block_lost_of_the_last_record_is_torn_and_gone_on_after(
    tmp_path: Path, size: int
) -> None:
    """Zeros are no line ends: wherever the block was, one line is lost, or two have become one."""
    path = filled(tmp_path)
    with Journal(str(tmp_path)) as journal:
        journal.append("begin", "long", {"text": "x" * 4 * size})
    whole = path.read_bytes()
    first = whole.rindex(b"\n", 0, -1) + 1
    for start in range(first, len(whole) - 1, size):
        end = min(start + size, len(whole) - 1)
        path.write_bytes(whole[:start] + bytes(end - start) + whole[end:])
        lost: list[str] = []
        assert [r.seq for r in latest(str(path), lost)] == [1, 2, 3]
        assert lost == [f"{path}:4"]
        if start % 7:
            continue
        with Journal(str(tmp_path)) as journal:
            assert journal.append("begin", "after", {}).seq == 5
        assert [r.seq for r in records(str(path))] == [1, 2, 3, 4, 5]
        assert path.read_bytes().startswith(whole[:start])


def test_a_damaged_record_before_the_last_stops_all_and_says_how_to_go_on(tmp_path: Path) -> None:
    path = filled(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[20:40] = bytes(20)
    path.write_bytes(whole)
    with pytest.raises(InputError, match=r":1: not a journal record, from byte 0.*audit repair"):
        list(records(str(path)))


def rotated(folder: Path) -> list[str]:
    filled(folder)
    with Journal(str(folder)) as journal:
        journal.rotate({"transactions": []})
        journal.append("begin", "t4", {"n": 4})
        journal.rotate({"transactions": []})
        journal.append("begin", "t5", {"n": 5})
    return segments(str(folder / NAME))


def test_segments_follow_each_other_in_one_chain(tmp_path: Path) -> None:
    found = rotated(tmp_path)
    assert [os.path.basename(p) for p in found] == [
        "journal.jsonl",
        "journal-000000000004.jsonl",
        "journal-000000000006.jsonl",
    ]
    assert [r.seq for r in records(found[0])] == list(range(1, 8))
    assert [r.seq for r in latest(found[0])] == [6, 7]
    with Journal(str(tmp_path)) as journal:
        assert journal.append("end", "t5").seq == 8


def test_where_no_new_segment_can_be_made_the_old_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened = filled(tmp_path), os.open

    def full(name: str, flags: int, *mode: int) -> int:
        if "journal-0" in str(name) and flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(name, flags, *mode)

    with Journal(str(tmp_path)) as journal:
        monkeypatch.setattr(os, "open", full)
        with pytest.raises(NotPermitted, match="cannot write the journal"):
            journal.rotate({"transactions": []})
        assert journal.path == str(path)
        assert journal.append("begin", "t4").seq == 4
    assert segments(str(path)) == [str(path)]
    assert [r.seq for r in records(str(path))] == [1, 2, 3, 4]


def test_a_lost_segment_is_named(tmp_path: Path) -> None:
    first, second, third = rotated(tmp_path)
    os.unlink(second)
    with pytest.raises(InputError, match=r"0006.jsonl:1: record 6 was altered or moved"):
        list(records(first))
    os.unlink(third)
    assert [r.seq for r in records(first)] == [1, 2, 3]


def test_a_segment_that_a_crash_left_empty_is_gone_on_with(tmp_path: Path) -> None:
    path = filled(tmp_path)
    (tmp_path / "journal-000000000004.jsonl").touch(mode=0o600)
    assert [r.seq for r in latest(str(path))] == [1, 2, 3]
    with Journal(str(tmp_path)) as journal:
        assert journal.append("begin", "t4").seq == 4
    assert [r.seq for r in latest(str(path))] == [1, 2, 3, 4]


LINES = st.lists(
    st.one_of(
        st.integers(0, 3),
        st.binary(min_size=1, max_size=40).filter(lambda b: b"\n" not in b),
        st.just("rotate"),
    ),
    max_size=8,
)


@settings(max_examples=60)
@given(LINES)
def test_whatever_a_crash_leaves_the_records_before_it_survive(
    tmp_path_factory: pytest.TempPathFactory, steps: list[object]
) -> None:
    """Appends, rotations and torn tails in any order: all that was acknowledged comes back."""
    folder = tmp_path_factory.mktemp("journal")
    path = str(folder / NAME)
    told: list[str] = []
    for step in steps:
        if isinstance(step, bytes):
            with open(segments(path)[-1] if segments(path) else path, "ab") as file:
                file.write(step)
            continue
        with Journal(str(folder)) as journal:
            if step == "rotate":
                journal.rotate({"transactions": []})
            else:
                told.append(journal.append("begin", f"t{len(told)}", {"n": step}).txn)
        assert [r.txn for r in records(path) if r.kind == "begin"] == told
