"""What the journal says of a transaction that waits, and what a checkpoint carries over."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import pytest
from builder import change
from fake_store import YES, FakeStore
from hypothesis import given, settings
from hypothesis import strategies as st

from remedies import codec
from remedies.errors import WriteFailed
from remedies.model import Change, Finding
from remedies.outcomes import Kind
from remedies.transaction import ledger, undo
from remedies.transaction.journal import NAME, Journal, latest, records
from remedies.transaction.ledger import Begin, Pending, Transaction, situation
from remedies.transaction.run import CheckedChange, apply, confirm_it
from remedies.values import replace


def begin(*changes: Change, kind: Kind = "apply", undoes: tuple[str, ...] = ()) -> Begin:
    return Begin(kind, changes, "0", "h", "m", "boot", "root", "remedy apply", undoes=undoes)


def read(folder: Path) -> dict[str, Transaction]:
    return ledger.transactions(records(str(folder / NAME)))


MIXED = (change("file", None, "text", boot=True), change("a", "0", "1"), change("b", None, "2"))


def waiting(folder: Path, store: FakeStore) -> Transaction:
    with Journal(str(folder)) as journal:
        result = apply(store, journal, begin(*MIXED), YES, CheckedChange, confirm=60)
    assert result.outcome == "applied"
    assert result.pending is not None
    (entry,) = read(folder).values()
    return entry


@pytest.mark.parametrize(
    ("pending", "boot", "clock", "guarded", "expected"),
    [
        (None, "boot", 0, False, "dead"),
        (None, "boot", 0, True, "writing"),
        (None, "other", 0, True, "rebooted"),
        (Pending("t", 10), "boot", 9, True, "pending"),
        (Pending("t", 10), "boot", 9, False, "unguarded"),
        (Pending("t", 10), "boot", 10, True, "expired"),
        (Pending("t", 10), "boot", 11, False, "expired"),
        (Pending("t", 10), "other", 9, True, "rebooted"),
    ],
)
def test_how_an_unfinished_transaction_stands(
    pending: Optional[Pending], boot: str, clock: float, guarded: bool, expected: str
) -> None:
    entry = Transaction("t", "now", begin(), pending=pending)
    assert situation(entry, boot, clock, guarded) == expected


def test_boot_files_come_last_and_only_once_it_is_confirmed(tmp_path: Path) -> None:
    store = FakeStore(a="0")
    entry = waiting(tmp_path, store)
    assert store.writes == [("a", "1"), ("b", "2")]
    assert entry.touched == (1, 2)
    with Journal(str(tmp_path)) as journal:
        confirm_it(store, journal, entry, YES)
    assert store.writes[2:] == [("file", "text")]
    (entry,) = read(tmp_path).values()
    assert entry.outcome == "confirmed"
    assert len(entry.standing) == 3


def test_without_a_confirmation_boot_files_come_last_too(tmp_path: Path) -> None:
    store = FakeStore(a="0")
    with Journal(str(tmp_path)) as journal:
        assert apply(store, journal, begin(*MIXED), YES, CheckedChange).outcome == "applied"
    assert [address for address, _ in store.writes] == ["a", "b", "file"]


def test_a_boot_file_that_cannot_be_written_leaves_it_waiting(tmp_path: Path) -> None:
    store = FakeStore(a="0")
    entry = waiting(tmp_path, store)
    store.broken = {"file"}
    with Journal(str(tmp_path)) as journal, pytest.raises(WriteFailed, match="is not confirmed"):
        confirm_it(store, journal, entry, YES)
    (entry,) = read(tmp_path).values()
    assert (entry.outcome, entry.pending is not None, entry.confirming) == (None, True, False)
    assert entry.touched == (1, 2)
    store.broken = set()
    with Journal(str(tmp_path)) as journal:
        confirm_it(store, journal, entry, YES)
    (entry,) = read(tmp_path).values()
    assert (entry.outcome, len(entry.standing)) == ("confirmed", 3)


def test_a_confirmation_whose_end_was_on_disk_and_not_acknowledged_waits_on(
    tmp_path: Path,
) -> None:
    entry = waiting(tmp_path, FakeStore(a="0"))
    with Journal(str(tmp_path)) as journal:
        journal.append("confirming", entry.id, {"user": "root"})
        journal.append("end", entry.id, {"outcome": "confirmed"})
        journal.append("pending", entry.id, codec.encode(entry.pending))
    (told,) = read(tmp_path).values()
    assert (told.outcome, told.confirming, told.pending) == (None, False, entry.pending)
    assert ledger.unfinished(read(tmp_path)) == (told,)


def applied(folder: Path, store: FakeStore, *changes: Change) -> None:
    with Journal(str(folder)) as journal:
        assert apply(store, journal, begin(*changes), YES, CheckedChange).outcome == "applied"


def test_what_an_apply_has_given_back_is_in_force_no_more(tmp_path: Path) -> None:
    store = FakeStore(a="0")
    for before, after in (("0", "1"), ("1", "2"), ("2", "0")):
        applied(tmp_path, store, change("a", before, after))
    assert ledger.in_force(read(tmp_path)) == {}
    assert ledger.to_roll_back(read(tmp_path)) == {}


def test_what_is_held_comes_back_as_the_first_change_of_it_does(tmp_path: Path) -> None:
    """An exact change on top of a lossy one does not make the way to the base exact."""
    store = FakeStore(a="0")
    applied(tmp_path, store, change("a", "0", "1", reversibility="lossy"))
    applied(tmp_path, store, change("a", "1", "2"))
    (held,) = ledger.in_force(read(tmp_path)).values()
    assert (held.base, held.ours, held.reversibility) == ("0", "2", "lossy")


def test_what_waits_is_reverted_and_a_boot_file_of_somebody_else_is_let_be(tmp_path: Path) -> None:
    store = FakeStore(a="0")
    entry = waiting(tmp_path, store)
    store.states["file"] = "theirs"
    with Journal(str(tmp_path)) as journal:
        result = undo.recover(store, journal, entry, "expired", YES)
    assert (result.outcome, result.reason) == ("reverted", "not confirmed in time")
    assert store.states == {"a": "0", "b": None, "file": "theirs"}
    assert ledger.in_force(read(tmp_path)) == {}


def test_after_a_restart_only_boot_files_are_put_back(tmp_path: Path) -> None:
    """The writer died in the middle of confirming, and the machine came up with another value."""
    store = FakeStore(a="0")
    entry = waiting(tmp_path, store)
    store.states.update(a="set at boot", b=None, file="text")
    entry = replace(entry, confirming=True)
    store.writes.clear()
    with Journal(str(tmp_path)) as journal:
        result = undo.recover(store, journal, entry, "rebooted", YES)
    assert result.outcome == "reverted"
    assert store.writes == [("file", None)]
    assert ledger.in_force(read(tmp_path)) == {}
    assert ledger.unfinished(read(tmp_path)) == ()


def test_a_rollback_cut_short_by_a_restart_is_closed(tmp_path: Path) -> None:
    store = FakeStore(a="0")
    with Journal(str(tmp_path)) as journal:
        txn = apply(store, journal, begin(*MIXED), YES, CheckedChange).transaction
        steps = tuple(c.reversed() for c in reversed(MIXED))
        journal.append("begin", "r", begin(*steps, kind="rollback", undoes=(txn,)).plain())
    store.states.update(a="set at boot", b=None)
    entry = read(tmp_path)["r"]
    with Journal(str(tmp_path)) as journal:
        assert undo.recover(store, journal, entry, "rebooted", YES).outcome == "rolled-back"
    assert store.states == {"a": "set at boot", "b": None, "file": None}
    assert ledger.in_force(read(tmp_path)) == {}


STEPS = st.lists(
    st.one_of(
        st.dictionaries(st.sampled_from("abc"), st.sampled_from([None, "1", "2"]), min_size=1),
        st.sampled_from(["rollback", "rotate"]),
    ),
    max_size=10,
)


@settings(max_examples=60)
@given(STEPS)
def test_a_checkpoint_says_what_all_segments_before_it_say(
    tmp_path_factory: pytest.TempPathFactory, steps: list[object]
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    path = str(folder / NAME)
    store = FakeStore(a="1")
    for step in steps:
        with Journal(str(folder)) as journal:
            found = ledger.transactions(latest(path))
            if step == "rotate":
                journal.rotate(ledger.checkpoint(found))
            elif isinstance(step, dict):
                changes = tuple(
                    change(address, store.read(address), after)
                    for address, after in step.items()
                    if after != store.read(address)
                )
                if changes:
                    apply(store, journal, begin(*changes), YES, CheckedChange)
            elif left := ledger.to_roll_back(found):
                txn, standing = next(iter(left.items()))
                steps_back = tuple(c.reversed() for c in reversed(standing))
                undo.roll_back(
                    store,
                    journal,
                    begin(*steps_back, kind="rollback", undoes=(txn,)),
                    YES,
                    force=True,
                )
        whole, recent = read(folder), ledger.transactions(latest(path))
        assert ledger.in_force(recent) == ledger.in_force(whole)
        assert ledger.to_roll_back(recent) == ledger.to_roll_back(whole)
        assert list(recent)[-1:] == list(whole)[-1:]


def test_a_word_that_is_none_does_not_keep_a_journal_from_being_read(tmp_path: Path) -> None:
    """Older versions took a finding's and a change's words from edited plans as they were."""
    finding = Finding("c", "s", "proven", "high", "")
    made = replace(begin(change("sysctl:net.a", "0", "1")), findings=(finding,))
    plain: dict[str, Any] = dict(made.plain())
    plain["findings"][0].update(verdict="bogus", severity="bogus")
    plain["changes"][0].update(risk="bogus", reversibility="bogus")
    with Journal(str(tmp_path)) as journal:
        journal.append("begin", "t", plain)
        journal.append("written", "t", {"change": 0})
        journal.append("end", "t", {"outcome": "applied"})
    (entry,) = read(tmp_path).values()
    (found,) = entry.begin.findings
    assert (found.verdict, found.severity) == ("unknown", "medium")
    assert (entry.standing[0].risk, entry.standing[0].reversibility) == ("high", "none")
    assert ledger.in_force(read(tmp_path))["sysctl:net.a"].base == "0"
