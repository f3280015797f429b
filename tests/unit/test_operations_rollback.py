"""What a rollback takes, in which order, and what it leaves to others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builder import change, plan
from fake_operations import KEY, FakeGuard, FakeHost, fake_host

from remedies.errors import Locked, RemedyError, UsageError
from remedies.model import Change
from remedies.operations import plans, rollback, session, unowned
from remedies.operations.rollback import Which
from remedies.transaction import guarded, undo
from remedies.transaction.store import Result
from remedies.values import replace

A, B, STRAY = "sysctl:a", "sysctl:b", "nft:inet/remedy_x"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    return fake_host(tmp_path, monkeypatch)


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


def written(
    host: FakeHost, patch: pytest.MonkeyPatch, *changes: Change, confirm: float | None = None
) -> str:
    """Apply a plan of these changes and return the transaction."""
    with patch.context() as now:
        now.setattr(plans, "make", lambda *_, **__: (plan(*changes), ()))
        return host.apply(confirm_timeout=confirm).transaction or ""


def outcome(host: FakeHost, txn: str) -> str | None:
    return session.reread(host.session).ledger[txn].outcome


def test_only_the_newest_is_taken_unless_every_one_is_meant(
    host: FakeHost, patch: pytest.MonkeyPatch
) -> None:
    first, second = written(host, patch, change(A)), written(host, patch, change(B))
    assert host.roll_back().transactions == (second,)
    third = written(host, patch, change(B))
    done = host.roll_back(every=True)
    assert done.transactions == (third, first)
    assert {c.impact for c in done.changes} == {rollback.BACK}
    assert host.store.states == {KEY: "0", A: None, B: None}


def test_what_a_newer_transaction_has_changed_again_is_not_undone_before_it(
    host: FakeHost, patch: pytest.MonkeyPatch
) -> None:
    first = written(host, patch, change(A))
    between = written(host, patch, change(B))
    second = written(host, patch, change(A, "1", "2"))
    with pytest.raises(RemedyError, match=f"{A} was changed again by transaction {second}"):
        host.roll_back(transaction=first)
    assert host.store.states[A] == "2"
    assert host.roll_back(transaction=between).transactions == (between,)
    assert host.roll_back(transaction=second).transactions == (second,)
    assert host.roll_back(transaction=first).transactions == (first,)
    with pytest.raises(UsageError, match="has nothing in force"):
        host.roll_back(transaction=first)


def test_a_fix_takes_back_what_it_wrote_and_no_other(
    host: FakeHost, patch: pytest.MonkeyPatch
) -> None:
    first = written(host, patch, change(A, fix="one"))
    written(host, patch, change(B, fix="other"))
    done = host.roll_back(fix="one")
    assert (done.outcome, done.transactions) == ("rolled-back", (first,))
    assert [(c.action, c.resource) for c in done.changes] == [("remove", A)]
    assert host.store.states == {KEY: "0", A: None, B: "1"}


def test_what_a_fix_wrote_last_goes_back_first(host: FakeHost, patch: pytest.MonkeyPatch) -> None:
    written(host, patch, change(A, fix="one"), change(B, fix="one"))
    host.roll_back(fix="one")
    assert host.store.writes == [(A, "1"), (B, "1"), (B, None), (A, None)]


@pytest.mark.parametrize("which", [{"fix": "one"}, {"unowned": True}, {"transaction": "first"}])
def test_what_waits_is_not_rejected_by_who_means_something_else(
    host: FakeHost, patch: pytest.MonkeyPatch, which: dict[str, Any]
) -> None:
    first = written(host, patch, change(A, fix="one"))
    waits = written(host, patch, change(B), confirm=600.0)
    patch.setattr(guarded, "alive", lambda *_: True)
    host.asked.clear()
    meant = {**which, "transaction": first} if "transaction" in which else which
    with pytest.raises(Locked, match=waits):
        host.roll_back(**meant)
    assert (host.asked, host.store.states) == ([], {KEY: "0", A: "1", B: "1"})


@pytest.mark.parametrize("which", [{"fix": "one"}, {"every": True}, {"transaction": "first"}])
def test_what_a_dead_writer_left_is_undone_first_and_then_what_was_meant(
    host: FakeHost, patch: pytest.MonkeyPatch, which: dict[str, Any]
) -> None:
    first = written(host, patch, change(A, fix="one"))
    dead = written(host, patch, change(B), confirm=600.0)
    meant = {**which, "transaction": first} if "transaction" in which else which
    done = host.roll_back(**meant)
    assert (done.outcome, done.transactions) == ("rolled-back", (dead, first))
    assert host.store.states == {KEY: "0", A: None, B: None}


def test_where_only_a_dead_writer_left_something_it_alone_is_undone(
    host: FakeHost, patch: pytest.MonkeyPatch
) -> None:
    dead = written(host, patch, change(B), confirm=600.0)
    done = host.roll_back(every=True)
    assert (done.outcome, done.transactions) == ("rolled-back", (dead,))
    assert host.roll_back().outcome == "nothing"


def test_what_is_unowned_is_removed_in_a_transaction_of_its_own(
    host: FakeHost, patch: pytest.MonkeyPatch
) -> None:
    written(host, patch, change(A))
    host.store.states[STRAY] = "rules"
    removal = change(STRAY, "rules", None)
    patch.setattr(unowned, "removals", lambda _: (removal,) if host.store.states[STRAY] else ())
    assert [c.resource for c in rollback.preview(host.session, Which(unowned=True))] == [STRAY]
    done = host.roll_back(unowned=True)
    (txn,) = done.transactions
    assert outcome(host, txn) == "rolled-back"
    assert host.store.states == {KEY: "0", A: "1", STRAY: None}
    assert host.roll_back(unowned=True).outcome == "nothing"


def test_drift_in_one_transaction_does_not_keep_the_others(
    host: FakeHost, patch: pytest.MonkeyPatch
) -> None:
    first = written(host, patch, change(A))
    written(host, patch, change(B))
    host.store.states[B] = "7"
    done = host.roll_back(every=True)
    assert (done.outcome, done.transactions, len(done.drift)) == ("incomplete", (first,), 1)
    assert host.store.states == {KEY: "0", A: None, B: "7"}
    again = host.roll_back()
    assert (again.outcome, again.transactions, len(again.drift)) == ("refused", (), 1)


@pytest.mark.parametrize("goes_on", [False, True])
def test_what_cannot_be_put_back_is_named_and_so_is_a_guard_that_goes_on(
    host: FakeHost, patch: pytest.MonkeyPatch, goes_on: bool
) -> None:
    written(host, patch, change(A))
    host.store.broken.add(A)
    patch.setattr(FakeGuard, "goes_on", lambda _: goes_on)
    host.said.clear()
    done = host.roll_back()
    assert (done.outcome, [A in line for line in done.stuck]) == ("incomplete", [True])
    assert ["guard continues" in line for line in host.said] == ([True] if goes_on else [])


def test_an_undoing_that_is_on_no_record_is_an_error(
    host: FakeHost, patch: pytest.MonkeyPatch
) -> None:
    written(host, patch, change(A))
    lost = Result("t2", "rolled-back", unrecorded="no space")
    patch.setattr(undo, "roll_back", lambda *_, **__: lost)
    with pytest.raises(RemedyError, match="no space"):
        host.roll_back()


def test_a_rollback_is_on_record_with_what_it_undoes_and_who_wrote_it(
    host: FakeHost, patch: pytest.MonkeyPatch
) -> None:
    txn = written(host, patch, change(A))
    host.session = replace(host.session, ticket=session.Ticket("CHG-1"))
    host.roll_back()
    (begun,) = [
        entry.begin
        for entry in session.reread(host.session).ledger.values()
        if entry.begin.kind == "rollback"
    ]
    assert (begun.undoes, begun.change_id, begun.changes[0].after) == ((txn,), "CHG-1", None)
