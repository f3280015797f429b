"""An apply with nobody there, as a watch starts it in another namespace: what it answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_operations import KEY, FakeHost, fake_host

from remedies import catalogue, codec
from remedies.model import Unattended
from remedies.namespaces import find
from remedies.namespaces.find import Namespace
from remedies.operations import session, unattended
from remedies.operations.unattended import UnattendedEnd
from remedies.rules import kinds
from remedies.transaction import guarded, lock
from remedies.values import replace

BOX = Namespace(2, 4, ("/proc/4711/ns/net",))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    made = fake_host(tmp_path, monkeypatch)
    allowing = replace(made.session.policy, unattended=Unattended(("cond",)))
    made.session = replace(made.session, policy=allowing)
    monkeypatch.setattr(unattended, "read_host", lambda: made.session.host)
    monkeypatch.setattr(find, "enter", lambda _: True)
    return made


def end(host: FakeHost) -> UnattendedEnd:
    text = unattended.work(host.session, BOX)()
    return codec.decode(UnattendedEnd, codec.loads(text, "end"), "end")


@pytest.mark.parametrize("once", [False, True])
def test_a_proven_fault_is_fixed_on_record_and_with_nobody_asked(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, once: bool
) -> None:
    monkeypatch.setattr(kinds, "comes_back", lambda _: not once)
    found = end(host)
    assert (found.outcome, found.fixes, found.once) == ("applied", ("liberal",), once)
    assert host.store.states == {KEY: "1"}
    assert host.asked == []
    entry = session.reread(host.session).ledger[found.transaction]
    assert (entry.outcome, entry.begin.approver) == ("applied", "")


def test_its_journal_is_that_of_the_namespace(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = replace(host.session, host=replace(host.session.host, netns="b-7"))
    monkeypatch.setattr(unattended, "read_host", lambda: inside.host)
    found = end(host)
    assert list(session.reread(inside).ledger) == [found.transaction]
    assert session.reread(host.session).ledger == {}


def test_what_does_not_help_is_undone(host: FakeHost) -> None:
    host.heals = False
    found = end(host)
    assert (found.outcome, found.once) == ("rolled-back", False)
    assert "still there" in found.reason
    assert host.store.states == {KEY: "0"}


def test_what_policy_does_not_list_is_left_to_a_person(host: FakeHost) -> None:
    other = replace(host.session.policy, unattended=Unattended(("another",)))
    host.session = replace(host.session, policy=other)
    assert end(host) == UnattendedEnd(
        reason="the fault was not seen again, or no harmless fix is left"
    )
    assert host.store.states == {KEY: "0"}


def test_a_fix_that_is_refused_says_why(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue.fix("liberal"), "guard", lambda *_: "a router needs it")
    assert end(host) == UnattendedEnd(reason="a router needs it")
    assert host.store.states == {KEY: "0"}


def test_who_holds_the_lock_or_waits_for_an_answer_goes_first(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lock.held(host.session.folder, 0.0):
        assert end(host).outcome is None
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    found = end(host)
    assert found.outcome is None
    assert txn in found.reason


def test_a_namespace_that_has_ended_is_left_alone(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "enter", lambda _: False)
    assert end(host) == UnattendedEnd(reason="the namespace has ended")
    assert host.store.states == {KEY: "0"}
