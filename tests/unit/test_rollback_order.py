"""Rollback of one transaction: never out of order, and what waits is not undone by accident."""

from __future__ import annotations

from pathlib import Path

import pytest
from builder import HOST, begin, change, policy
from fake_guard import Watching
from fake_store import YES, FakeStore

from remedies.errors import Locked, RemedyError
from remedies.operations import recovery, rollback
from remedies.operations.rollback import Which
from remedies.operations.session import HostSession, reread, unfinished_lines
from remedies.transaction import guarded, ledger, state, undo
from remedies.transaction.journal import Journal
from remedies.transaction.ledger import Pending, Transaction
from remedies.transaction.run import CheckedChange, apply
from remedies.values import replace

FIRST, SECOND, OTHER = change("a", "0", "1"), change("a", "1", "2"), change("b", "0", "1")


def test_what_a_newer_one_has_changed_again_is_not_put_back() -> None:
    left = {"t2": (SECOND,), "t1": (FIRST, OTHER)}
    with pytest.raises(RemedyError, match=r"a was changed again by transaction t2") as caught:
        rollback._on_top(left, "t1")
    assert "remedy rollback t2" in caught.value.hint
    rollback._on_top(left, "t2")


def test_one_that_shares_nothing_with_newer_ones_may_go_first() -> None:
    rollback._on_top({"t2": (OTHER,), "t1": (FIRST,)}, "t1")


@pytest.fixture
def here(tmp_path: Path) -> HostSession:
    """Give a session with a journal in which a transaction waits to be confirmed."""
    made = HostSession(HOST, policy(), str(tmp_path), {}, {})
    folder = state.prepare(made.state_dir, HOST.netns)
    with Journal(folder) as journal:
        apply(
            FakeStore(a="0"),
            journal,
            begin(FIRST),
            YES,
            CheckedChange,
            arm=Watching(),
            confirm=600.0,
        )
    return reread(made)


def recover(
    here: HostSession, monkeypatch: pytest.MonkeyPatch, store: FakeStore, *, lives: bool
) -> HostSession:
    monkeypatch.setattr(guarded, "alive", lambda *_: lives)
    with Journal(here.folder) as journal:
        return recovery.recover(replace(here, store=store), journal)


@pytest.mark.parametrize(
    ("which", "undone"),
    [
        (Which(), {("t2",): ["b"]}),
        (Which(transaction="t2"), {("t2",): ["b"]}),
        (Which(transaction="t1"), {("t1",): ["c", "a"]}),
        (Which(every=True), {("t2",): ["b"], ("t1",): ["c", "a"]}),
    ],
)
def test_which_transactions_go_back_and_in_which_order(
    here: HostSession,
    monkeypatch: pytest.MonkeyPatch,
    which: Which,
    undone: dict[tuple[str, ...], list[str]],
) -> None:
    left = {"t2": (OTHER,), "t1": (FIRST, change("c", "0", "1"))}
    monkeypatch.setattr(rollback, "to_roll_back", lambda _: dict(left))
    steps = {
        txns: [c.resource for c in back] for txns, back in rollback._of_transactions(here, which)
    }
    assert steps == undone
    assert list(steps) == list(undone)


def test_one_that_waits_is_left_alone_and_named(
    here: HostSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FakeStore(a="1")
    (txn,) = here.ledger
    with pytest.raises(Locked, match=txn):
        recover(here, monkeypatch, store, lives=True)
    assert store.writes == []
    assert reread(here).ledger[txn].outcome is None


def test_one_that_waits_without_a_guard_is_undone(
    here: HostSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FakeStore(a="1")
    (txn,) = here.ledger
    after = recover(here, monkeypatch, store, lives=False)
    assert store.states == {"a": "0"}
    assert after.ledger[txn].outcome == "reverted"
    assert after.held == {}


PENDING = Pending("2026-01-01T00:02:00Z", 220.0)


@pytest.mark.parametrize(
    ("pending", "boot_id", "clock", "guarded", "expected"),
    [
        (PENDING, "b", 219.9, True, "pending"),
        (PENDING, "b", 219.9, False, "unguarded"),
        (PENDING, "b", 220.0, True, "expired"),
        (PENDING, "b", 220.0, False, "expired"),
        (PENDING, "another", 0.0, False, "rebooted"),
        (None, "b", 999.0, True, "writing"),
        (None, "b", 999.0, False, "dead"),
    ],
)
def test_how_an_unfinished_one_stands(
    pending: Pending | None, boot_id: str, clock: float, guarded: bool, expected: str
) -> None:
    entry = Transaction("t", "", begin(FIRST))
    entry.pending = pending
    assert ledger.situation(entry, boot_id, clock, guarded) == expected


def test_the_reason_of_an_undoing_is_on_record(
    here: HostSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    (entry,) = here.ledger.values()
    with Journal(here.folder) as journal:
        undo.recover(FakeStore(a="1"), journal, entry, "expired", YES, last=True)
    assert reread(here).ledger[entry.id].outcome == "reverted"


def test_what_waits_may_be_confirmed_with_and_without_its_guard(
    here: HostSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    (txn,) = here.ledger
    for lives in (True, False):
        monkeypatch.setattr(guarded, "alive", lambda *_, lives=lives: lives)
        waits = recovery.waiting(here)
        assert waits is not None
        assert waits.id == txn
        (line,) = unfinished_lines(here)
        assert ("remedy confirm" in line) is lives
