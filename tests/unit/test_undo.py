"""Putting back, step by step: order, strangers' values, lossy restores, and what goes on record."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from builder import change
from fake_guard import Full, Watching
from fake_store import YES, FakeStore

from remedies.model import Change
from remedies.outcomes import Kind
from remedies.transaction import bootguard, ledger, undo, undofile
from remedies.transaction.journal import NAME, Journal, records
from remedies.transaction.ledger import Begin, Transaction
from remedies.transaction.run import CheckedChange, apply
from remedies.transaction.store import Result
from remedies.values import replace


def begin(*changes: Change, kind: Kind = "apply", undoes: tuple[str, ...] = ()) -> Begin:
    return Begin(kind, changes, "0", "h", "m", "b", "root", "remedy", undoes=undoes)


def back(*changes: Change) -> tuple[Change, ...]:
    return tuple(c.reversed() for c in reversed(changes))


def entries(folder: Path) -> dict[str, Transaction]:
    return ledger.transactions(records(str(folder / NAME)))


THREE = (change("a", "0", "1"), change("b", None, "2"), change("c", "old", "new"))


def undone(folder: Path, store: FakeStore, *, fails: str = "c") -> Result:
    """Apply three changes of which one cannot be written."""
    store.broken = {fails}
    with Journal(str(folder)) as journal:
        return apply(store, journal, begin(*THREE), YES, CheckedChange)


def test_the_newest_change_is_put_back_first(tmp_path: Path) -> None:
    store = FakeStore(a="0", c="old")
    assert undone(tmp_path, store).outcome == "rolled-back"
    assert store.writes == [("a", "1"), ("b", "2"), ("b", None), ("a", "0")]


def test_what_somebody_changed_meanwhile_stays_and_is_named(tmp_path: Path) -> None:
    """Only the change that has just gone wrong is overwritten: what is there is our own."""
    store = FakeStore(a="0", c="old")
    store.before_write = lambda at: store.states.update(a="theirs") if at == "c" else None
    result = undone(tmp_path, store)
    assert result.outcome == "incomplete"
    (stuck,) = result.stuck
    assert stuck.startswith("a: ")
    assert "now 'theirs'" in stuck
    assert store.states == {"a": "theirs", "b": None, "c": "old"}


@pytest.mark.parametrize("way", ["undo", "rollback"])
def test_any_error_of_a_driver_leaves_the_others_to_be_put_back(tmp_path: Path, way: str) -> None:
    store = FakeStore(a="0", c="old")

    def fail(address: str) -> None:
        if address == "b" and store.states.get("b") == "2":
            raise KeyError("a driver's own fault")

    store.before_write = fail
    with Journal(str(tmp_path)) as journal:
        store.broken = {"c"} if way == "undo" else set()
        result = apply(store, journal, begin(*THREE), YES, CheckedChange)
        if way == "rollback":
            step = begin(*back(*THREE), kind="rollback", undoes=(result.transaction,))
            result = undo.roll_back(store, journal, step, YES)
    assert (result.outcome, len(result.stuck)) == ("incomplete", 1)
    assert store.states == {"a": "0", "b": "2", "c": "old"}


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("way", ["undo", "rollback"])
def test_what_a_lossy_restore_leaves_behind_is_no_failure(
    tmp_path: Path, way: str, exact: bool
) -> None:
    store = FakeStore(c="old")
    first = change("a", None, "1", reversibility="exact" if exact else "lossy")
    with Journal(str(tmp_path)) as journal:
        if way == "undo":
            store.broken = {"c"}
        store.before_write = lambda at: (
            store.clamped.update(a="an empty table") if store.states.get("a") == "1" else None
        )
        result = apply(store, journal, begin(first, THREE[2]), YES, CheckedChange)
        if way == "rollback":
            step = begin(*back(first, THREE[2]), kind="rollback", undoes=(result.transaction,))
            result = undo.roll_back(store, journal, step, YES)
    assert store.states["a"] == "an empty table"
    assert result.outcome == ("incomplete" if exact else "rolled-back")


@pytest.mark.parametrize("stuck", [True, False])
def test_the_way_back_without_the_tool_goes_once_all_is_back(tmp_path: Path, stuck: bool) -> None:
    def arm(txn: str, begin: Begin) -> Any:
        undofile.write(str(tmp_path), txn, "")
        return Watching()

    store = FakeStore(a="0", c="old")
    store.broken = {"c"}
    if stuck:
        store.before_write = lambda at: store.states.update(a="theirs") if at == "c" else None
    with Journal(str(tmp_path)) as journal:
        apply(store, journal, begin(*THREE), YES, CheckedChange, arm=arm)
    assert len(list(tmp_path.glob("undo-*.sh"))) == stuck


def test_the_first_reason_why_the_end_is_not_on_record_is_told(tmp_path: Path) -> None:
    """And the guard stays: it finds the transaction unfinished."""
    store, guard = FakeStore(a="0", c="old"), Watching()
    store.broken = {"c"}
    with Full(str(tmp_path)) as journal:
        journal.room = 3  # begin and two writes
        result = apply(store, journal, begin(*THREE), YES, CheckedChange, arm=guard)
    assert store.states == {"a": "0", "b": None, "c": "old"}
    assert result.unrecorded == f"{tmp_path / NAME}: {os.strerror(errno.ENOSPC)}"
    assert guard.told == []


def test_the_guard_of_a_rollback_stays_until_its_end_is_on_record(tmp_path: Path) -> None:
    store = FakeStore(a="0", c="old")
    for room, told in ((1, []), (1000, ["dismiss"])):
        guard = Watching()
        with Full(str(tmp_path)) as journal:
            done = apply(store, journal, begin(*THREE), YES, CheckedChange)
            journal.room = room
            step = begin(*back(*THREE), kind="rollback", undoes=(done.transaction,))
            result = undo.roll_back(store, journal, step, YES, arm=guard)
        assert store.states == {"a": "0", "b": None, "c": "old"}
        assert (bool(result.unrecorded), guard.told) == (not told, told)


def test_a_rollback_cut_short_goes_on_where_it_stood(tmp_path: Path) -> None:
    """What it had put back before is not looked at again: somebody may have changed it since."""
    store = FakeStore(a="0", c="old")
    with Journal(str(tmp_path)) as journal:
        done = apply(store, journal, begin(*THREE), YES, CheckedChange)
        step = begin(*back(*THREE), kind="rollback", undoes=(done.transaction,))
        journal.append("begin", "r", step.plain())
        store.write("c", "old")
        journal.append("written", "r", {"change": 0})
        store.states["c"] = "theirs since"
        result = undo.recover(store, journal, entries(tmp_path)["r"], "dead", YES)
    assert result.outcome == "rolled-back"
    assert store.states == {"a": "0", "b": None, "c": "theirs since"}
    assert entries(tmp_path)["r"].written == [0, 1, 2]


def test_an_undoing_cut_short_goes_on_where_it_stood(tmp_path: Path) -> None:
    store = FakeStore(a="0", c="old")
    with Journal(str(tmp_path)) as journal:
        journal.append("begin", "t", begin(*THREE).plain())
        for index in range(3):
            journal.append("written", "t", {"change": index})
        journal.append("undone", "t", {"change": 2})
        store.states.update(a="1", b="2", c="theirs since")
        result = undo.recover(store, journal, entries(tmp_path)["t"], "dead", YES)
    assert (result.outcome, result.stuck) == ("rolled-back", ())
    assert store.states == {"a": "0", "b": None, "c": "theirs since"}


@pytest.mark.parametrize(
    ("why", "outcome"),
    [
        ("rejected", "rolled-back"),
        ("dead", "rolled-back"),
        ("hung", "rolled-back"),
        ("expired", "reverted"),
        ("unguarded", "reverted"),
        ("rebooted", "reverted"),
    ],
)
def test_reverted_is_what_nobody_confirmed(tmp_path: Path, why: str, outcome: str) -> None:
    store = FakeStore(a="0", c="old")
    with Journal(str(tmp_path)) as journal:
        apply(store, journal, begin(*THREE), YES, CheckedChange, confirm=60)
        (entry,) = entries(tmp_path).values()
        assert undo.recover(store, journal, entry, why, YES).outcome == outcome
    assert entries(tmp_path)[entry.id].outcome == outcome


def test_a_boot_file_that_somebody_changed_before_the_restart_stays_and_is_named(
    tmp_path: Path,
) -> None:
    file = change("file", None, "ours", boot=True)
    store = FakeStore(a="0")
    with Journal(str(tmp_path)) as journal:
        apply(store, journal, begin(THREE[0], file), YES, CheckedChange, confirm=60)
        (entry,) = entries(tmp_path).values()
        store.states.update(a="0", file="theirs")
        entry = replace(entry, confirming=True)
        result = undo.recover(store, journal, entry, "rebooted", YES)
    assert (result.outcome, len(result.stuck)) == ("incomplete", 1)
    assert store.states["file"] == "theirs"


def test_undoing_is_not_interrupted() -> None:
    """A signal that comes meanwhile is delivered after it."""
    held = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with undo.undisturbed():
        assert set(held) <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@pytest.mark.parametrize("way", ["undo", "rollback"])
def test_what_has_ended_is_not_ended_again_at_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The boot guard goes once the end is on record."""
    told: list[object] = []
    monkeypatch.setattr(
        bootguard,
        "disarm",
        lambda folder, txn: told.append((folder, txn, entries(tmp_path)[txn].outcome)),
    )
    store = FakeStore(a="1" if way == "rollback" else "0")
    one = change("a", "0", "1")
    with Journal(str(tmp_path)) as journal:
        if way == "rollback":
            ended = undo.roll_back(
                store, journal, begin(one.reversed(), kind="rollback", undoes=("t0",)), YES
            )
        else:
            store.broken = {"b"}
            ended = apply(store, journal, begin(one, change("b", None, "2")), YES, CheckedChange)
    assert store.states["a"] == "0"
    assert told == [(str(tmp_path), ended.transaction, "rolled-back")]
