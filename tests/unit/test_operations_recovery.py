"""What every writing operation does around its own work: who is on record, guards, dead writers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest
from builder import begin, change, finding, held, plan
from fake_operations import KEY, FakeGuard, FakeHost, fake_host
from fake_store import YES

from remedies.errors import RemedyError, WriteFailed
from remedies.operations import confirm, recovery, session
from remedies.operations.recovery import Arming
from remedies.operations.session import Ticket
from remedies.rules.ours import iptables_chain, iptables_text
from remedies.transaction import actor, bootguard, consent, guard, guarded, lock, undo, undofile
from remedies.transaction.journal import Journal
from remedies.transaction.store import Result
from remedies.values import replace

CHANGE = change("sysctl:a", finding=finding().id)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    return fake_host(tmp_path, monkeypatch)


# Who is on record.


def test_the_journal_has_who_from_where_and_for_which_ticket(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("user", "uid", "command", "login_uid", "ssh_from"):
        monkeypatch.setattr(actor, name, lambda name=name: f"the {name}")
    here = replace(host.session, ticket=Ticket("CHG-1", "why", "ann"))
    made = plan(CHANGE, findings=(finding(), finding("other")))
    found = recovery.begin(here, "apply", (CHANGE,), YES, plan=made)
    assert (found.user, found.uid, found.command) == ("the user", "the uid", "the command")
    assert (found.login_uid, found.ssh_from) == ("the login_uid", "the ssh_from")
    assert (found.change_id, found.comment, found.approver) == ("CHG-1", "why", "ann")
    assert (found.plan_id, found.policy, found.policy_digest) == (made.id, ("p",), "d")
    assert [f.condition for f in found.findings] == ["cond"], "what the changes answer"
    approved = replace(made, approved="x")
    assert recovery.begin(here, "apply", (CHANGE,), YES, plan=approved).plan_id == "x"


def test_the_journal_has_what_was_there_before_the_first_of_ours(host: FakeHost) -> None:
    first, second = "iptables:mangle/REMEDY-INVALID", "iptables:mangle/REMEDY-MSS"
    ours = iptables_chain("mangle/REMEDY-INVALID", "nft", ("FORWARD",), ("-j DROP",))
    here = replace(host.session, held={first: held(first, ours)})
    now = iptables_text("nft", "mangle", (":FORWARD",), ())
    (found,) = recovery.begin(here, "apply", (change(second, before=now),), YES).changes
    assert found.before is None


def test_who_answered_the_question_approved_it_unless_somebody_else_is_named(
    host: FakeHost,
) -> None:
    asked = consent.answered("y", "al", dry_run=False)
    option = consent.stated("--yes", "al", dry_run=False)
    assert asked is not None
    assert option is not None
    named = replace(host.session, ticket=Ticket(approver="ann"))
    approvers = [
        recovery.begin(here, "apply", (), agreed).approver
        for here, agreed in ((host.session, asked), (named, asked), (host.session, option))
    ]
    assert approvers == ["al", "ann", ""]


# Arming.


@pytest.mark.parametrize(("kind", "script"), [("apply", True), ("rollback", False)])
def test_an_apply_leaves_an_undo_script_and_the_guard_of_the_session_is_armed(
    host: FakeHost, kind: Any, script: bool
) -> None:
    armed, weak = [], FakeGuard()
    weak.note = "the guard ends with this login"

    def arm(*given: Any) -> Any:
        armed.append(given)
        return weak

    arming = Arming(replace(host.session, arm=arm))
    assert arming("t1", begin(CHANGE, kind=kind)) is cast(Any, weak)
    assert arming.guard is cast(Any, weak)
    assert [(folder, txn, window) for folder, txn, _, window in armed] == [
        (host.session.folder, "t1", host.session.window)
    ]
    assert (list(undofile.those(host.session.folder)) == ["t1"]) is script
    assert host.said == [weak.note]


def test_no_guard_is_armed_where_the_undo_script_cannot_be_written(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(undofile, "write", full)
    host.session = replace(host.session, arm=lambda *_: pytest.fail("armed"))
    with pytest.raises(WriteFailed, match="No space left"):
        host.apply()
    assert host.store.writes == []


# What a dead writer left.


@pytest.mark.parametrize("alive", [True, False])
def test_who_undoes_leaves_the_rest_to_a_living_guard_and_wakes_it(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    told, woken = [], []

    def recover(*given: Any, last: bool) -> Result:
        told.append((given[2].id, given[3], last))
        return Result(txn, "rolled-back")

    monkeypatch.setattr(guarded, "alive", lambda *_: alive)
    monkeypatch.setattr(guarded, "wake", lambda folder, name: woken.append((folder, name)))
    monkeypatch.setattr(undo, "recover", recover)
    here = session.reread(host.session)
    with Journal(here.folder) as journal:
        recovery.take_back(here, journal, here.ledger[txn], "rejected", YES)
    assert told == [(txn, "rejected", not alive)]
    assert woken == [(here.folder, txn)]


def test_who_confirms_wakes_the_guard(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    woken = []

    def wake(folder: str, name: str, patience: float) -> None:
        with lock.held(folder, 0.0):  # which the guard needs before it can end
            woken.append((folder, name, patience > 0))

    monkeypatch.setattr(guarded, "wake", wake)
    confirm.confirm(host.session, None, lock_timeout=1.0)
    assert woken == [(host.session.folder, txn, True)]


def test_who_answers_yes_wakes_the_guard(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    woken: list[tuple[str, str]] = []
    monkeypatch.setattr(guarded, "wake", lambda folder, name: woken.append((folder, name)))
    assert confirm.answer(session.reread(host.session), txn, YES, lock_timeout=1.0)
    assert woken == [(host.session.folder, txn)]


def test_an_undoing_that_is_stuck_or_on_no_record_is_an_error() -> None:
    recovery.whole(Result("t1", "rolled-back"))
    with pytest.raises(RemedyError, match=r"t1 cannot be undone: a; b"):
        recovery.whole(Result("t1", "incomplete", stuck=("a", "b")))
    for judge in (recovery.whole, recovery.recorded):
        with pytest.raises(RemedyError, match=r"t1 was undone, .*no space"):
            judge(Result("t1", "rolled-back", unrecorded="no space"))


def test_a_full_segment_is_followed_by_one_that_has_what_is_in_force(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.apply()
    monkeypatch.setattr(Journal, "full", True)
    with Journal(host.session.folder) as journal:
        recovery.recover(session.reread(host.session), journal)
    here = session.reread(host.session)
    assert list(here.held) == [KEY]
    assert len([name for name in os.listdir(here.folder) if name.startswith("journal")]) == 2


def test_files_beside_the_journal_that_nobody_needs_any_more_are_swept(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[str] = []
    monkeypatch.setattr(guard, "sweep", swept.append)
    first = host.apply().transaction
    assert list(undofile.those(host.session.folder)) == [first]
    swept.clear()
    host.roll_back()
    assert list(undofile.those(host.session.folder)) == []
    assert set(swept) == {host.session.folder}


def test_boot_guards_are_swept_but_for_unfinished_transactions(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[tuple[str, set[str]]] = []
    monkeypatch.setattr(bootguard, "sweep", lambda where, keep: swept.append((where, set(keep))))
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    host.apply()
    host.store.states[KEY] = "0"
    waits = host.apply(confirm_timeout=600.0).transaction or ""
    swept.clear()
    recovery.sweep(session.reread(host.session))
    assert swept == [(host.session.folder, {waits})]
