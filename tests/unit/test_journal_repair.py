"""What a repair makes of a journal that lost any of its lines: on data, and against a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builder import change
from fake_store import YES, FakeStore
from test_transaction_ledger import begin

from remedies.errors import InputError
from remedies.operations import session
from remedies.transaction import ledger, repair
from remedies.transaction.audit import Audit, verify, walk
from remedies.transaction.journal import NAME, Journal, latest, newest_first
from remedies.transaction.ledger import in_force, to_roll_back, transactions
from remedies.transaction.run import CheckedChange, apply
from remedies.transaction.segments import segments
from remedies.transaction.undo import roll_back


def filled(folder: Path, *, rotate: bool = False) -> FakeStore:
    """Apply a and b, roll back b, apply c: a and c are in force."""
    store = FakeStore()
    with Journal(str(folder)) as journal:
        for name in ("a", "b"):
            apply(store, journal, begin(change(name, None, "1")), YES, CheckedChange)
        found = transactions(latest(str(folder / NAME)))
        name = list(found)[-1]
        back = change("b", "1", None)
        roll_back(store, journal, begin(back, kind="rollback", undoes=(name,)), YES)
        if rotate:
            journal.rotate(ledger.checkpoint(transactions(latest(str(folder / NAME)))))
        apply(store, journal, begin(change("c", None, "1")), YES, CheckedChange)
    return store


def lose(path: Path, *numbers: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    for number in numbers:
        lines[number] = b"\0" * (len(lines[number]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))


def repaired(folder: Path, store: FakeStore) -> repair.Settled:
    damage = repair.examine(str(folder))
    assert damage is not None
    settled = repair.settle(damage, store)
    repair.start(damage, settled.carried, YES, "0")
    return settled


LINES = 12


@pytest.mark.parametrize("number", range(LINES))
def test_whichever_line_is_lost_the_rest_is_kept_and_the_host_decides(
    tmp_path: Path, number: int
) -> None:
    store = filled(tmp_path)
    path = tmp_path / NAME
    plain = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(plain) == LINES
    lose(path, number)
    left = path.read_bytes()
    if number < LINES - 1:  # the last one alone does not count, and may have been torn in a crash
        where = rf":{number + 1}: not a journal record, from byte \d+"
        with pytest.raises(InputError, match=where):
            transactions(latest(str(path)))
    settled = repaired(tmp_path, store)
    assert path.read_bytes() == left
    assert repair.examine(str(tmp_path)) is None
    found = transactions(latest(str(path)))
    assert in_force(found) == in_force(settled.ledger)
    headless = plain[number]["txn"] if plain[number]["kind"] == "begin" else ""
    held = {a for a in ("a", "c") if store.states.get(a)} - {
        c["resource"] for c in plain[number]["data"].get("changes", ()) if headless
    }
    assert set(in_force(found)) == held
    assert set(to_roll_back(found)) == {h.transaction for h in in_force(found).values()}
    assert all(h.base is None and h.ours == "1" for h in in_force(found).values())
    told = [t for s in newest_first(str(path)) for t in transactions(s)]
    assert sorted(told) == sorted({r["txn"] for r in plain} - {headless})
    audit = verify(str(path))
    assert [p.record for p in audit.problems] == [number + 1]
    assert not audit.open
    assert audit.repairs[0].segments == (NAME,)
    with Journal(str(tmp_path)) as journal:
        apply(store, journal, begin(change("d", None, "1")), YES, CheckedChange)
    assert set(in_force(transactions(latest(str(path))))) == held | {"d"}
    assert not verify(str(path)).open


@pytest.mark.parametrize(("newest", "line"), [(True, 0), (True, 2), (False, 1)])
def test_damage_is_repaired_in_whichever_segment_it_is(
    tmp_path: Path, newest: bool, line: int
) -> None:
    store = filled(tmp_path, rotate=True)
    first, second = map(Path, segments(str(tmp_path / NAME)))
    lose(second if newest else first, line)
    if not newest:
        assert set(in_force(transactions(latest(str(first))))) == {"a", "c"}
    with pytest.raises(InputError):
        list(newest_first(str(first)))
    settled = repaired(tmp_path, store)
    assert set(in_force(settled.ledger)) == {"a", "c"}
    assert set(in_force(transactions(latest(str(first))))) == {"a", "c"}
    told = {t for s in newest_first(str(first)) for t in transactions(s)}
    assert len(told) == 4
    assert sorted(t.id for t in session.newest(str(tmp_path))) == sorted(told), "each once"
    assert not verify(str(first)).open


@pytest.mark.parametrize(("line", "repairs"), [(0, 1), (2, 2)])
def test_garbage_alone_leaves_nothing_and_a_second_repair_is_possible(
    tmp_path: Path, line: int, repairs: int
) -> None:
    path = tmp_path / NAME
    path.write_bytes(b"garbage\nmore\n")
    path.chmod(0o600)
    assert in_force(repaired(tmp_path, FakeStore()).ledger) == {}
    store = FakeStore()
    with Journal(str(tmp_path)) as journal:
        apply(store, journal, begin(change("a", None, "1")), YES, CheckedChange)
    second = Path(segments(str(path))[-1])
    lose(second, line)
    assert set(in_force(repaired(tmp_path, store).ledger)) == {"a"}
    assert len(segments(str(path))) == 3
    audit = verify(str(path))
    assert len(audit.repairs) == repairs
    assert len(audit.repairs[-1].segments) == 2
    assert not audit.open


def test_what_the_host_shows_otherwise_is_noted(tmp_path: Path) -> None:
    store = filled(tmp_path)
    lose(tmp_path / NAME, 0)
    store.states["c"] = "somebody's"
    settled = repaired(tmp_path, store)
    assert settled.notes == (
        "c is neither what remedy wrote nor what was there before: it has drifted",
    )
    assert set(in_force(settled.ledger)) == {"c"}


def test_a_damaged_file_that_is_changed_after_its_repair_is_named(tmp_path: Path) -> None:
    store, path = filled(tmp_path), tmp_path / NAME
    lose(path, 1)
    repaired(tmp_path, store)
    seqs = [record.seq for record in walk(str(path), Audit())]
    assert seqs == [1, 14], "a report goes on with the repair"
    lose(path, 2)
    (problem,) = verify(str(path)).open
    assert f"names {NAME}, which was changed since" in problem.what
    path.unlink()
    assert any("which is missing" in problem.what for problem in verify(str(path)).open)


def test_a_journal_that_can_be_read_needs_no_repair(tmp_path: Path) -> None:
    assert repair.examine(str(tmp_path)) is None
    filled(tmp_path, rotate=True)
    assert repair.examine(str(tmp_path)) is None
