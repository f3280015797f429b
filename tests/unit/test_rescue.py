"""What a guard does when its time has come: again and again where that may help, and on record."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Optional

import pytest
from fake_guard import Watching
from fake_store import YES, FakeStore

from remedies.errors import WriteFailed
from remedies.model import Change
from remedies.transaction import bootguard, ledger, rescue, watch
from remedies.transaction.journal import NAME, Journal, records
from remedies.transaction.ledger import Begin, Transaction
from remedies.transaction.memory import Memory
from remedies.transaction.run import CheckedChange, apply

CHANGES = tuple(
    Change("f", None, name, "update", "old", "new", "", "exact", "low", "") for name in "ab"
)
BEGIN = Begin("apply", CHANGES, "0", "h", "m", "b", "root", "remedy apply")


class Busy(FakeStore):
    """Refuses a number of writes, as a kernel does whose rules somebody else writes."""

    refuses = 0

    def write(self, address: str, state: Optional[str]) -> None:
        if self.refuses:
            self.refuses -= 1
            raise WriteFailed("the table kept changing")
        super().write(address, state)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Busy:
    made = Busy(a="new", b="new")
    monkeypatch.setattr(rescue, "HostResources", lambda: made)
    monkeypatch.setattr(rescue, "PAUSE", 0.001)
    return made


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(rescue, "announce", lines.append)
    return lines


def begun(folder: Path, *written: int) -> Memory:
    with Journal(str(folder)) as journal:
        journal.append("begin", "t", BEGIN.plain())
        memory = Memory(str(folder), "t", BEGIN)
        for index in written:
            journal.append("written", "t", {"change": index})
    memory.look()
    return memory


def told(folder: Path) -> Transaction:
    return ledger.transactions(records(str(folder / NAME)))["t"]


def test_it_tries_again_until_all_is_back(tmp_path: Path, store: Busy, said: list[str]) -> None:
    store.refuses = 5
    entry = rescue.act(begun(tmp_path, 0, 1), "dead", 1)
    assert entry is not None
    assert (entry.outcome, store.states) == ("rolled-back", {"a": "old", "b": "old"})
    assert told(tmp_path).outcome == "rolled-back"
    assert "is not undone yet: b: the table kept changing; a: the table kept" in said[0]
    assert said[1].endswith("was undone: all is as before")
    assert len(said) == 2


def test_it_gives_up_in_the_end_and_says_what_is_stuck(
    tmp_path: Path, store: Busy, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "LASTING", 0.05)
    store.broken = {"a"}
    entry = rescue.act(begun(tmp_path, 0, 1), "dead", 1)
    assert entry is not None
    assert (entry.outcome, entry.stuck) == ("incomplete", ("a: no space left",))
    assert (told(tmp_path).outcome, store.states["b"]) == ("incomplete", "old")
    assert "cannot be undone: a: no space left" in said[-1]


def test_what_somebody_else_has_set_is_not_tried_again(
    tmp_path: Path, store: Busy, said: list[str]
) -> None:
    store.states["a"] = "theirs"
    entry = rescue.act(begun(tmp_path, 0, 1), "dead", 1)
    assert entry is not None
    assert entry.outcome == "incomplete"
    assert store.states == {"a": "theirs", "b": "old"}
    assert len(said) == 1


def test_of_what_no_record_calls_begun_only_what_is_ours_is_put_back(
    tmp_path: Path, store: Busy, said: list[str]
) -> None:
    store.states["b"] = "theirs"
    entry = rescue.act(begun(tmp_path), "dead", 1)
    assert entry is not None
    assert (entry.outcome, store.states) == ("rolled-back", {"a": "old", "b": "theirs"})


def test_records_that_are_lost_since_do_not_matter(
    tmp_path: Path, store: Busy, said: list[str]
) -> None:
    memory = begun(tmp_path, 0, 1)
    os.truncate(tmp_path / NAME, 0)
    entry = rescue.act(memory, "dead", 1)
    assert entry is not None
    assert (entry.outcome, store.states) == ("rolled-back", {"a": "old", "b": "old"})
    assert told(tmp_path).outcome == "rolled-back"


@pytest.mark.parametrize("end", [True, False])
def test_what_has_ended_or_never_began_is_left_alone(
    tmp_path: Path, store: Busy, said: list[str], end: bool
) -> None:
    """Even where what is there is what it would have written: another writer may have."""
    if end:
        memory = begun(tmp_path, 0, 1)
        with Journal(str(tmp_path)) as journal:
            journal.append("end", "t", {"outcome": "confirmed"})
    else:
        memory = Memory(str(tmp_path), "t", BEGIN)
    entry = rescue.act(memory, "dead", 1)
    assert (entry and entry.outcome) == ("confirmed" if end else None)
    assert (store.states, said) == ({"a": "new", "b": "new"}, [])


def test_an_end_that_was_seen_once_counts_whatever_becomes_of_it(
    tmp_path: Path, store: Busy, said: list[str]
) -> None:
    memory = begun(tmp_path, 0, 1)
    with Journal(str(tmp_path)) as journal:
        journal.append("end", "t", {"outcome": "confirmed"})
    assert memory.look().outcome == "confirmed"
    (tmp_path / NAME).write_bytes(b"")
    rescue.act(memory, "expired", 1)
    assert store.states == {"a": "new", "b": "new"}


def test_what_a_living_writer_cannot_undo_is_left_to_its_guard(tmp_path: Path) -> None:
    store, guard = Busy(a="old", b="old"), Watching()

    def busy() -> CheckedChange:
        store.refuses = 1
        return CheckedChange("still there")

    for lives, outcome in ((True, None), (False, "incomplete")):
        guard.lives, store.states = lives, {"a": "old", "b": "old"}
        folder = tmp_path / str(lives)
        folder.mkdir()
        with Journal(str(folder)) as journal:
            result = apply(store, journal, BEGIN, YES, busy, arm=guard)
        assert (result.outcome, result.open) == ("incomplete", lives)
        (entry,) = ledger.transactions(records(str(folder / NAME))).values()
        assert entry.outcome == outcome
        assert guard.told == ([] if lives else ["dismiss"])


def test_what_a_writer_left_after_the_end_goes_although_its_death_is_not_heard_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = begun(tmp_path, 0, 1)
    with Journal(str(tmp_path)) as journal:
        journal.append("end", "t", {"outcome": "applied"})
    removed: list[str] = []
    monkeypatch.setattr(bootguard, "armed", lambda _folder, _txn: True)
    monkeypatch.setattr(bootguard, "disarm", lambda _folder, txn: removed.append(txn))
    fifo, other = os.pipe()
    lifeline, writer = socket.socketpair()
    with lifeline, writer:
        entry = watch._watch(memory, lifeline, fifo, 60.0)
    os.close(fifo)
    os.close(other)
    assert entry is not None
    assert (entry.outcome, removed) == ("applied", ["t"])
