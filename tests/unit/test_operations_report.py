"""A host's report: from its journal and a scan, and how far the journal is to be trusted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from builder import begin, plan
from fake_operations import KEY, FakeHost, fake_host

from remedies.errors import NotPermitted, RemedyError, UsageError
from remedies.operations import apply, confirm, report, session
from remedies.operations.apply import Ended
from remedies.outcomes import Outcome, Recorded
from remedies.report.record import HostReport
from remedies.transaction import guard, guarded
from remedies.transaction.ledger import Transaction
from remedies.values import replace


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    return fake_host(tmp_path, monkeypatch)


def made(host: FakeHost, *, only: str | None = None, scan: bool = False) -> HostReport:
    here = session.reread(host.session)
    (found,) = report.of_host(here, since="", only=only, scan=scan, head=None).hosts
    return found


def test_the_journal_tells_what_was_done(host: FakeHost) -> None:
    txn = host.apply().transaction or ""
    found = made(host)
    assert [deed.id for deed in found.deeds] == [txn]
    assert [deed.id for deed in made(host, only=txn).deeds] == [txn]
    with pytest.raises(UsageError, match="nosuch"):
        made(host, only="nosuch")
    assert host.said == []


def test_what_waits_for_an_answer_is_named(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "alive", lambda *_: True)
    txn = host.apply(confirm_timeout=600.0).transaction or ""
    made(host)
    assert [txn in line for line in host.said] == [True]


def test_an_apply_that_verified_nothing_has_nothing_to_look_at_again(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []
    monkeypatch.setattr(session, "look", lambda *_, **given: looked.append(given))
    assert apply.finish(host.session, Ended(plan(), "rolled-back")).verified == ()
    assert looked == []


def test_a_scan_says_what_is_there_now(host: FakeHost) -> None:
    (judgement,) = made(host, scan=True).judgements
    assert (judgement.condition, judgement.verdict, judgement.outcome) == ("cond", "proven", "fail")
    txn = host.apply().transaction
    after = made(host, scan=True)
    assert "fail" not in {judgement.outcome for judgement in after.judgements}
    assert [deed.id for deed in after.deeds] == [txn]


def test_a_record_that_was_altered_is_named_and_nothing_after_it_counts(host: FakeHost) -> None:
    first = host.apply().transaction or ""
    host.store.states[KEY] = "0"
    host.apply()
    journal = Path(session.reread(host.session).folder, "journal.jsonl")
    lines = journal.read_text().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if first not in line)
    lines[at] = lines[at].replace("0", "7", 1)
    journal.write_text("".join(lines))
    found, chain = report._with_journal(host.session, None)
    assert list(found.ledger) == [first]
    assert chain is not None
    assert "altered" in chain.state
    assert any(line.startswith("journal: ") and "left out" in line for line in host.said)


def test_a_journal_that_may_not_be_read_leaves_the_report_without_it(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> object:
        raise NotPermitted("cannot read the journal x: Permission denied")

    monkeypatch.setattr(report, "walk", refuse)
    found, chain = report._with_journal(host.session, None)
    assert (found, chain) == (host.session, None)
    assert ["Permission denied" in line for line in host.said] == [True]


ENDED = replace(Transaction("t1", "2026-01-01T00:00:00Z", begin()), outcome="confirmed")
OPEN = replace(ENDED, outcome=None)


@pytest.mark.parametrize(
    ("journal", "seen", "end"),
    [
        (ENDED, None, ENDED),
        (ENDED, OPEN, ENDED),
        (OPEN, ENDED, ENDED),
        (None, ENDED, ENDED),
        (OPEN, OPEN, None),
        (None, None, None),
    ],
)
def test_how_it_ended_is_what_the_journal_says_or_else_what_the_guard_has_seen(
    host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
    journal: Transaction | None,
    seen: Transaction | None,
    end: Transaction | None,
) -> None:
    monkeypatch.setattr(guard, "outcome_of", lambda *_: journal)
    watched = cast(Any, SimpleNamespace(ended=lambda: seen))
    if end is None:
        with pytest.raises(RemedyError, match="t1"):
            confirm.end_of(host.session, "t1", watched)
    else:
        assert confirm.end_of(host.session, "t1", watched) == end


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        ("confirmed", "applied"),
        ("reverted", "reverted"),
        ("rolled-back", "reverted"),
        ("incomplete", "incomplete"),
    ],
)
def test_what_was_waited_for_ends_as_its_transaction_does(end: Recorded, outcome: Outcome) -> None:
    waits = Ended(plan(), "applied", "t1", until="2026-01-01T00:00:00Z")
    entry = replace(ENDED, outcome=end, reason="nobody came", stuck=("nft: gone",))
    settled = apply.settled(waits, entry)
    assert (settled.outcome, settled.until) == (outcome, None)
    undone = end != "confirmed"
    assert (settled.reason, settled.stuck) == ((entry.reason, entry.stuck) if undone else ("", ()))
