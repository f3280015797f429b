"""A journal repaired from what the host shows, and what no record has adopted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from builder import change
from fake_operations import KEY, FakeHost, fake_host

from remedies.errors import InputError, Unreadable
from remedies.operations import confirm, repair, session, unowned


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
    assert [(c.before, c.after) for c in unowned.adoptions(host.session)] == [
        (None, "0"), (None, "x"),
    ]  # fmt: skip


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
    monkeypatch.setattr("remedies.operations.repair.strays", lambda _: ())
    done = repair.run(host.session, host.agree, lock_timeout=1.0)
    assert done.prospect is not None
    assert os.path.exists(done.path)
    names = [c.resource for c in done.adopted.begin.changes] if done.adopted else []
    assert names == [c.resource for c in adopted]
    assert set(session.reread(host.session).held) == {KEY, *names}
    assert host.store.states == {KEY: "1"}
    assert repair.run(host.session, host.agree, lock_timeout=1.0).prospect is None
