"""What waits for a confirmation: kept, undone, too late, or of another journal."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from fake_operations import KEY, FakeHost, fake_host
from fake_store import YES

from remedies.errors import Locked, RemedyError, UsageError, WriteFailed
from remedies.operations import confirm, rollback, session, unowned
from remedies.operations.rollback import Which
from remedies.transaction import adopt, guard, guarded
from remedies.transaction.consent import Consent


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    return fake_host(tmp_path, monkeypatch)


def test_what_waits_is_confirmed_once(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    ended = host.apply(confirm_timeout=600.0)
    assert ended.until is not None
    here = session.reread(host.session)
    for wanted in (None, ended.transaction):
        kept = confirm.would_keep(here, wanted)
        assert kept is not None
        assert kept.id == ended.transaction
    assert confirm.would_keep(here, "another") is None
    assert confirm.confirm(here, None, lock_timeout=1.0).outcome == "confirmed"
    assert confirm.would_keep(session.reread(here), None) is None
    assert session.reread(here).ledger[ended.transaction or ""].outcome == "confirmed"
    assert confirm.confirm(here, None, lock_timeout=1.0) == confirm.Confirmed("nothing")
    again = confirm.confirm(here, ended.transaction, lock_timeout=1.0)
    assert again == confirm.Confirmed("nothing", ended.transaction or "")
    assert host.store.states == {KEY: "1"}


def test_only_what_is_named_is_confirmed(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = host.apply().transaction or ""
    host.store.states[KEY] = "0"
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    waits = host.apply(confirm_timeout=600.0).transaction or ""
    for wanted in (earlier, "another"):
        with pytest.raises(Locked, match=waits):
            confirm.confirm(host.session, wanted, lock_timeout=1.0)
    assert session.reread(host.session).ledger[waits].outcome is None
    assert confirm.confirm(host.session, waits, lock_timeout=1.0).outcome == "confirmed"


def test_on_a_host_without_a_journal_nothing_waits(host: FakeHost) -> None:
    here = session.reread(host.session)
    assert confirm.confirm(here, None, lock_timeout=1.0) == confirm.Confirmed("nothing")


def test_what_waits_is_undone_by_a_no(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    here = session.reread(host.session)
    assert not confirm.answer(here, "another", None, lock_timeout=1.0)
    assert host.store.states == {KEY: "1"}
    assert confirm.answer(here, txn, None, lock_timeout=1.0)
    assert host.store.states == {KEY: "0"}
    assert session.reread(here).held == {}
    assert not confirm.answer(here, txn, YES, lock_timeout=1.0)


def test_what_waits_is_kept_by_a_yes(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    here = session.reread(host.session)
    assert confirm.answer(here, txn, YES, lock_timeout=1.0)
    assert host.store.states == {KEY: "1"}
    assert session.reread(here).ledger[txn].outcome == "confirmed"
    assert not confirm.answer(here, txn, None, lock_timeout=1.0)
    assert host.store.states == {KEY: "1"}


TABLE = "nft:inet/remedy_invalid_drop"


def test_what_no_journal_has_is_adopted_as_it_is(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.store.states[TABLE] = "x"
    monkeypatch.setattr(unowned, "unowned", lambda ledger: () if ledger else (TABLE,))
    entry = confirm.adopt_unowned(session.reread(host.session), lock_timeout=1.0)
    assert entry is not None
    here = session.reread(host.session)
    assert here.ledger[entry.id].outcome == "adopted"
    assert (here.held[TABLE].ours, here.held[TABLE].base) == ("x", None)
    assert host.store.writes == []
    assert confirm.adopt_unowned(here, lock_timeout=1.0) is None


def test_a_journal_that_takes_no_record_adopts_nothing(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    host.store.states[TABLE] = "x"
    monkeypatch.setattr(unowned, "unowned", lambda _: (TABLE,))
    monkeypatch.setattr(adopt, "record", full)
    with pytest.raises(WriteFailed, match=r"journal\.jsonl: No space left") as failed:
        confirm.adopt_unowned(session.reread(host.session), lock_timeout=1.0)
    assert failed.value.hint == "nothing is adopted"
    assert session.reread(host.session).held == {}


def test_a_yes_is_for_what_was_asked_about_alone(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody holds the lock while a person thinks: what waits then may be another one."""
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    first = host.apply(confirm_timeout=600.0).transaction or ""
    second = ""

    def slowly(what: Any) -> Consent:
        nonlocal second
        if not second:
            here = session.reread(host.session)
            confirm.confirm(here, first, lock_timeout=1.0)
            host.store.states[KEY] = "0"
            second = host.apply(confirm_timeout=600.0).transaction or ""
        return YES

    here = session.reread(host.session)
    with pytest.raises(RemedyError) as refused:
        rollback.roll_back(here, Which(), slowly, force=False, lock_timeout=1.0)
    assert second in str(refused.value)
    here = session.reread(host.session)
    assert here.ledger[first].outcome == "confirmed"
    assert (confirm.would_keep(here, second), host.store.states) == (
        here.ledger[second], {KEY: "1"},
    )  # fmt: skip


def test_nothing_is_written_over_what_cannot_be_undone(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    monkeypatch.setattr(guarded, "alive", lambda *_: False)
    monkeypatch.setattr("remedies.transaction.guarded.clock", lambda: 1e12)
    host.store.broken.add(KEY)
    host.shown.clear()
    with pytest.raises(RemedyError, match=txn):
        host.apply()
    assert host.shown == []


def test_what_waits_in_another_journal_is_named(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    stray = guard.Stray(1, "t9", "/elsewhere")
    monkeypatch.setattr(guard, "strays", lambda _: (stray,))
    here = session.reread(host.session)
    for wanted in (None, "t9"):
        with pytest.raises(RemedyError, match="t9") as refused:
            confirm.confirm(here, wanted, lock_timeout=1.0)
        assert "--state-dir" in refused.value.hint
    with pytest.raises(UsageError, match="t8"):
        confirm.confirm(here, "t8", lock_timeout=1.0)


def test_a_rollback_rejects_what_waits(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    host.asked.clear()
    assert host.roll_back(transaction=txn).outcome == "rolled-back"
    assert (len(host.asked), host.store.states) == (1, {KEY: "0"})
    assert session.reread(host.session).ledger[txn].outcome == "rolled-back"


def test_a_rollback_of_what_was_never_finished_takes_nothing_else(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = host.apply().transaction
    host.store.states[KEY] = "0"  # somebody changed it, and the fault is back
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    second = host.apply(confirm_timeout=600.0).transaction
    monkeypatch.setattr(guarded, "alive", lambda *_: False)  # it died with its writer
    done = host.roll_back()
    assert (done.outcome, done.transactions) == ("rolled-back", (second,))
    assert session.reread(host.session).ledger[first or ""].outcome == "applied"


def test_a_confirmation_that_comes_too_late_is_told_so(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    monkeypatch.setattr(guarded, "alive", lambda *_: False)  # and nobody confirmed it in time
    monkeypatch.setattr("remedies.transaction.guarded.clock", lambda: 1e12)
    for wanted in (None, txn):
        late = confirm.confirm(session.reread(host.session), wanted, lock_timeout=1.0)
        assert (late.outcome, late.transaction) == ("reverted", txn)
    assert [txn in line for line in host.said] == [True]
    assert host.store.states == {KEY: "0"}
    with pytest.raises(UsageError, match="nosuch"):
        confirm.confirm(session.reread(host.session), "nosuch", lock_timeout=1.0)


def test_a_stuck_rejection_says_what_to_do(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    host.store.broken.add(KEY)
    with pytest.raises(RemedyError, match=txn) as caught:
        confirm.answer(session.reread(host.session), txn, None, lock_timeout=1.0)
    assert "remedy rollback" in caught.value.hint
