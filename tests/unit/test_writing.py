"""Writing under a guard: what it is told, which signals wait, and a confirmation that fails."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from builder import change
from fake_guard import Full, Watching
from fake_store import YES, FakeStore

from remedies.errors import WriteFailed
from remedies.model import Change
from remedies.transaction import ledger
from remedies.transaction.journal import NAME, Journal, records
from remedies.transaction.ledger import Begin, Transaction
from remedies.transaction.run import CheckedChange, apply, confirm_it, deadline

STOPS = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
ENDS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}


def begin(*changes: Change) -> Begin:
    return Begin("apply", changes, "0", "h", "m", "b", "root", "remedy apply")


ONE = change("a", "0", "1")
FILES = tuple(change(name, None, "text", boot=True) for name in ("f1", "f2", "f3"))


def only(folder: Path) -> Transaction:
    (entry,) = ledger.transactions(records(str(folder / NAME))).values()
    return entry


def masked() -> set[signal.Signals]:
    return {signal.Signals(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, ())}


def test_a_guard_is_dismissed_at_the_end_and_told_where_it_waits(tmp_path: Path) -> None:
    for confirm, told in ((0.0, ["dismiss"]), (60.0, ["waits"])):
        guard, store = Watching(), FakeStore(a="0")
        with Journal(str(tmp_path)) as journal:
            apply(store, journal, begin(ONE), YES, CheckedChange, arm=guard, confirm=confirm)
        assert guard.told == told


def test_a_guard_is_dismissed_after_an_undoing_that_is_on_record(tmp_path: Path) -> None:
    guard, store = Watching(), FakeStore(a="0")
    with Journal(str(tmp_path)) as journal:
        apply(store, journal, begin(ONE), YES, lambda: CheckedChange("still there"), arm=guard)
    assert (store.states, guard.told) == ({"a": "0"}, ["dismiss"])


@pytest.mark.parametrize(("room", "told"), [(1000, ["dismiss"]), (2, [])])
def test_after_an_interruption_the_guard_stays_until_the_end_is_on_record(
    tmp_path: Path, room: int, told: list[str]
) -> None:
    guard, store = Watching(), FakeStore(a="0")

    def interrupted() -> CheckedChange:
        raise KeyboardInterrupt

    with Full(str(tmp_path)) as journal:
        journal.room = room
        with pytest.raises(KeyboardInterrupt):
            apply(store, journal, begin(ONE), YES, interrupted, arm=guard)
    assert (store.states, guard.told) == ({"a": "0"}, told)


def test_a_verification_that_cannot_be_recorded_undoes_everything(tmp_path: Path) -> None:
    store = FakeStore(a="0")
    with Full(str(tmp_path)) as journal:
        journal.room = 2
        result = apply(
            store, journal, begin(ONE), YES, lambda: CheckedChange(record={"verified": []})
        )
    assert (result.outcome, store.states) == ("rolled-back", {"a": "0"})
    assert "No space left" in result.reason


def test_a_writer_is_not_stopped_half_way_but_can_be_interrupted(tmp_path: Path) -> None:
    store, seen = FakeStore(a="0"), []
    store.before_write = lambda _: seen.append(masked())
    before = masked()
    with Journal(str(tmp_path)) as journal:
        apply(store, journal, begin(ONE), YES, CheckedChange)
    assert seen[0] >= STOPS
    assert not ENDS & seen[0]
    assert masked() == before


def waiting(folder: Path, store: FakeStore) -> Transaction:
    with Journal(str(folder)) as journal:
        apply(store, journal, begin(ONE, *FILES), YES, CheckedChange, confirm=60)
    return only(folder)


def test_a_confirmation_is_neither_stopped_nor_interrupted(tmp_path: Path) -> None:
    store, seen = FakeStore(a="0"), []
    entry = waiting(tmp_path, store)
    store.before_write = lambda _: seen.append(masked())
    with Journal(str(tmp_path)) as journal:
        confirm_it(store, journal, entry, YES)
    assert len(seen) == 3
    assert all(held >= STOPS | ENDS for held in seen)


def test_the_files_of_a_confirmation_that_fails_go_again_newest_first(tmp_path: Path) -> None:
    store = FakeStore(a="0")
    entry = waiting(tmp_path, store)
    store.broken = {"f3"}
    store.writes.clear()
    with Journal(str(tmp_path)) as journal, pytest.raises(WriteFailed, match="f3: no space left"):
        confirm_it(store, journal, entry, YES)
    assert store.writes == [("f1", "text"), ("f2", "text"), ("f2", None), ("f1", None)]
    assert (only(tmp_path).outcome, only(tmp_path).standing) == (None, (ONE,))


def test_a_file_that_stays_after_a_confirmation_failed_is_named(tmp_path: Path) -> None:
    store = FakeStore(a="0")
    entry = waiting(tmp_path, store)
    store.before_write = lambda at: store.broken.update({"f1", "f2"}) if at == "f2" else None
    with (
        Journal(str(tmp_path)) as journal,
        pytest.raises(WriteFailed, match="f2: no space left; f1: no space left"),
    ):
        confirm_it(store, journal, entry, YES)


def test_time_is_told_by_a_clock_that_nobody_can_set() -> None:
    """CLOCK_BOOTTIME goes on while the machine sleeps; the time of day is for people."""
    found = deadline(100.0)
    left = found.clock - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 0 < left <= 100.0
    assert found.until >= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
