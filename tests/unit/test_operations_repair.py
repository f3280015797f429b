"""A journal repaired from what the host shows, and what no record has adopted."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from builder import HOST, change
from fake_operations import KEY, FakeHost, fake_host
from fake_store import YES

from remedies.errors import InputError, Locked, NotPermitted, Unreadable, WriteFailed
from remedies.operations import confirm, repair, session, standing, unowned
from remedies.rules.ours import WRITTEN
from remedies.transaction import bootguard, guard, guarded, undofile
from remedies.transaction.consent import Consent
from remedies.transaction.journal import NAME
from remedies.values import replace


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    return fake_host(tmp_path, monkeypatch)


def test_a_journal_that_is_whole_needs_no_repair(host: FakeHost) -> None:
    host.apply()
    here = session.reread(host.session)
    assert repair.examine(here) is None


def test_what_is_unowned_is_not_looked_for_where_the_kernel_does_not_say(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(_ledger: object) -> tuple[str, ...]:
        raise Unreadable("nf_tables: not permitted")

    monkeypatch.setattr(unowned, "unowned", blind)
    assert unowned.addresses(host.session) == ()
    assert "not permitted" in host.said[-1]
    monkeypatch.setattr(unowned, "unowned", lambda _: ("nft:inet/remedy_invalid_drop", KEY))
    host.store.states["nft:inet/remedy_invalid_drop"] = "x"
    assert unowned.addresses(host.session) == ("nft:inet/remedy_invalid_drop", KEY)
    found = unowned.removals(host.session)
    assert [(c.resource, c.before, c.after, c.action) for c in found] == [
        ("nft:inet/remedy_invalid_drop", "x", None, "remove"), (KEY, "0", None, "remove"),
    ]  # fmt: skip
    assert {c.fix for c in found} == {"unowned"}, "no fix is known that makes such"
    assert [(c.before, c.after) for c in unowned.adoptions(host.session)] == [
        (None, "0"), (None, "x"),
    ]  # fmt: skip
    file = "file:/etc/sysctl.d/99-zz-x.conf"
    host.store.states[file] = f"{WRITTEN}liberal).\nx = 1\n"
    monkeypatch.setattr(unowned, "unowned", lambda _: (file,))
    assert [c.fix for c in unowned.removals(host.session)] == ["liberal"], "its first line says so"


def test_where_nothing_is_unowned_nothing_is_adopted(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remedies.operations.unowned.addresses", lambda _: ())
    assert confirm.adopt_unowned(session.reread(host.session), lock_timeout=1.0) is None
    assert session.reread(host.session).ledger == {}


@pytest.mark.parametrize("stray", [False, True])
def test_a_repair_keeps_what_the_host_shows_and_adopts_what_no_record_has(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, stray: bool
) -> None:
    host.apply()
    journal = os.path.join(host.session.folder, "journal.jsonl")
    with open(journal, "ab") as file:
        file.write(b"garbage\n" * 2)
    with pytest.raises(InputError):
        session.reread(host.session)
    adopted = (change("nft:inet/remedy_x", None, "x"),) if stray else ()
    monkeypatch.setattr("remedies.operations.unowned.adoptions", lambda _: adopted)
    names = tuple(c.resource for c in adopted)
    monkeypatch.setattr("remedies.operations.unowned.unowned", lambda _: names)
    monkeypatch.setattr("remedies.operations.repair.strays", lambda _: ())
    undofile.write(host.session.folder, "lost", "#!/bin/sh\n")
    swept: list[tuple[str, tuple[str, ...]]] = []
    monkeypatch.setattr(bootguard, "sweep", lambda *given: swept.append(given))
    done = repair.run(host.session, host.agree, lock_timeout=1.0)
    assert done.prospect is not None
    assert done.prospect.scripts == ("lost",)
    with open(undofile.kept(host.session.folder, "lost"), encoding="utf-8") as script:
        assert script.read() == "#!/bin/sh\n"
    assert os.path.exists(done.path)
    assert done.prospect.unowned == names
    assert swept == [(host.session.folder, ())], "no boot may undo what is on no record"
    assert (done.adopted.begin.changes if done.adopted else ()) == adopted
    assert set(session.reread(host.session).held) == {KEY, *names}
    assert host.store.states == {KEY: "1"}
    assert repair.run(host.session, host.agree, lock_timeout=1.0).prospect is None


def test_what_somebody_repaired_meanwhile_is_not_repaired_again(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(what: object) -> Consent:
        repair.run(host.session, host.agree, lock_timeout=1.0)
        return YES

    host.apply()
    with open(os.path.join(host.session.folder, NAME), "ab") as journal:
        journal.write(b"garbage\n" * 2)
    monkeypatch.setattr("remedies.operations.unowned.adoptions", lambda _: ())
    monkeypatch.setattr("remedies.operations.repair.strays", lambda _: ())
    assert repair.run(host.session, slowly, lock_timeout=1.0) == repair.Repaired()
    assert repair.examine(session.reread(host.session)) is None


def test_a_repair_that_cannot_write_leaves_the_journal_as_it_was(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    host.apply()
    journal = Path(host.session.folder, NAME)
    journal.write_bytes(journal.read_bytes() + b"garbage\n" * 2)
    before = journal.read_bytes()
    monkeypatch.setattr("remedies.operations.unowned.adoptions", lambda _: ())
    monkeypatch.setattr("remedies.operations.repair.strays", lambda _: ())
    monkeypatch.setattr("remedies.transaction.repair.start", full)
    with pytest.raises(WriteFailed, match="No space left") as failed:
        repair.run(host.session, host.agree, lock_timeout=1.0)
    assert "as it was" in failed.value.hint
    assert [path.name for path in journal.parent.glob("journal*")] == [NAME]
    assert journal.read_bytes() == before
    monkeypatch.setattr(
        "remedies.operations.repair.strays",
        lambda _: (guard.Stray(7, "t9", os.path.abspath(host.session.folder)),),
    )
    with pytest.raises(Locked, match=r"t9 .*pid 7"):
        repair.run(host.session, host.agree, lock_timeout=1.0)


def torn(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> str:
    """Leave a transaction open whose journal ends with what is no record."""
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    with open(os.path.join(host.session.folder, NAME), "a", encoding="utf-8") as journal:
        journal.write("no record\n")
    host.said.clear()
    return txn


def test_a_lost_record_that_may_be_an_end_is_not_taken_for_a_crash(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    txn = torn(host, monkeypatch)
    with pytest.raises(InputError, match=txn) as refused:
        session.reread(host.session)
    assert "audit repair" in refused.value.hint
    rebooted = replace(host.session, host=replace(HOST, boot_id="another"))
    assert list(session.reread(rebooted).ledger) == [txn]
    assert len(host.said) == 1


def test_a_journal_that_may_not_be_read_is_empty_unless_it_is_what_was_asked_for(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.apply()
    assert session.reread(host.session).held

    def refuse(*_: object) -> object:
        raise NotPermitted("cannot read the journal")

    monkeypatch.setattr(session, "latest", refuse)
    host.said.clear()
    here = session.reread(host.session)
    assert (here.ledger, here.held, len(host.said)) == ({}, {}, 1)
    with pytest.raises(NotPermitted):
        session.reread(host.session, of_journal=True)


def test_what_has_no_end_is_listed_with_how_it_stands(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    monkeypatch.setattr(standing, "strays", lambda _: (guard.Stray(7, "t9", "/elsewhere"),))
    here = session.reread(host.session)
    assert dict(standing._unfinished(here)) == {txn: "pending", "t9": "stray"}
    (line,) = session.unfinished_lines(here)
    assert txn in line
    assert "remedy confirm" in line
