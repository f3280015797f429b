"""Transactions on a store in memory: order, failure at every step, crash, compare-and-swap."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest
from builder import change
from fake_store import YES, FakeStore
from hypothesis import given, settings
from hypothesis import strategies as st

from remedies.errors import Drift, StalePlan, WriteFailed
from remedies.model import Change
from remedies.outcomes import Kind
from remedies.transaction import ledger, undo
from remedies.transaction.journal import Journal, records
from remedies.transaction.ledger import Begin, Transaction
from remedies.transaction.run import CheckedChange, apply
from remedies.transaction.store import Result, apart, new_id
from remedies.values import replace


def begin(*changes: Change, kind: Kind = "apply", undoes: tuple[str, ...] = ()) -> Begin:
    return Begin(kind, changes, "0", "h", "m", "b", "root", "remedy apply", undoes=undoes)


def transactions(folder: Path) -> dict[str, Transaction]:
    return ledger.transactions(records(str(folder / "journal.jsonl")))


def fine() -> CheckedChange:
    return CheckedChange()


TWO = (change("a", None, "1"), change("b", "old", "new"))


def test_apply_writes_all_and_is_in_force(tmp_path: Path) -> None:
    store = FakeStore(b="old")
    with Journal(str(tmp_path)) as journal:
        result = apply(store, journal, begin(*TWO), YES, fine)
    assert result.outcome == "applied"
    assert store.states == {"a": "1", "b": "new"}
    held = ledger.in_force(transactions(tmp_path))
    assert {(h.resource, h.base, h.ours) for h in held.values()} == {
        ("a", None, "1"),
        ("b", "old", "new"),
    }


def test_before_values_are_on_disk_before_the_first_write(tmp_path: Path) -> None:
    store = FakeStore(b="old")
    seen: list[int] = []
    store.before_write = lambda _: seen.append(len(transactions(tmp_path)))
    with Journal(str(tmp_path)) as journal:
        apply(store, journal, begin(*TWO), YES, fine)
    assert seen == [1, 1]


def test_effects_follow_their_change_and_are_no_part_of_the_way_back(tmp_path: Path) -> None:
    store = FakeStore(b="old", flow="there")
    with Journal(str(tmp_path)) as journal:
        apply(store, journal, begin(replace(TWO[0], effects=("flow",)), TWO[1]), YES, fine)
    assert store.writes == [("a", "1"), ("flow", None), ("b", "new")]
    assert [
        r.data["effect"] for r in records(str(tmp_path / "journal.jsonl")) if r.kind == "effect"
    ]
    assert "flow" not in ledger.in_force(transactions(tmp_path))
    roll_back(store, tmp_path)
    assert store.states == {"a": None, "b": "old", "flow": None}


@pytest.mark.parametrize("broken", ["a", "b"])
def test_a_failing_step_undoes_everything(tmp_path: Path, broken: str) -> None:
    store = FakeStore(b="old")
    store.broken = {broken}
    with Journal(str(tmp_path)) as journal:
        result = apply(store, journal, begin(*TWO), YES, fine)
    assert result.outcome == "rolled-back"
    assert "no space left" in result.reason
    assert (store.states.get("a"), store.states["b"]) == (None, "old")
    assert ledger.in_force(transactions(tmp_path)) == {}


def test_a_clamped_value_is_a_failure_and_is_put_back(tmp_path: Path) -> None:
    store = FakeStore(b="old")
    store.clamped = {"b": "half"}
    with Journal(str(tmp_path)) as journal:
        store.before_write = lambda _: (
            store.clamped.clear() if store.states["b"] == "half" else None
        )
        result = apply(store, journal, begin(*TWO), YES, fine)
    assert result.outcome == "rolled-back"
    assert "wrote 'new' and read back 'half'" in result.reason
    assert (store.states["a"], store.states["b"]) == (None, "old")


def test_a_failed_verification_undoes_everything(tmp_path: Path) -> None:
    store = FakeStore(b="old")
    with Journal(str(tmp_path)) as journal:
        result = apply(
            store, journal, begin(*TWO), YES, lambda: CheckedChange("the fault is still there")
        )
    assert (result.outcome, result.reason) == ("rolled-back", "the fault is still there")
    assert store.states == {"a": None, "b": "old"}


def test_an_interruption_undoes_everything_and_goes_on(tmp_path: Path) -> None:
    store = FakeStore(b="old")

    def interrupted() -> CheckedChange:
        raise KeyboardInterrupt

    with Journal(str(tmp_path)) as journal, pytest.raises(KeyboardInterrupt):
        apply(store, journal, begin(*TWO), YES, interrupted)
    assert store.states == {"a": None, "b": "old"}
    (entry,) = transactions(tmp_path).values()
    assert entry.outcome == "rolled-back"


def test_what_cannot_be_undone_is_said(tmp_path: Path) -> None:
    store = FakeStore(b="old")

    def break_a() -> CheckedChange:
        store.broken = {"a"}
        return CheckedChange("still there")

    with Journal(str(tmp_path)) as journal:
        result = apply(store, journal, begin(*TWO), YES, break_a)
    assert result.outcome == "incomplete"
    assert result.stuck == ("a: no space left",)
    assert store.states == {"a": "1", "b": "old"}


def test_a_stale_plan_is_refused_before_the_journal_hears_of_it(tmp_path: Path) -> None:
    store = FakeStore(b="moved")
    with (
        Journal(str(tmp_path)) as journal,
        pytest.raises(StalePlan, match=r"b moved: .*'old'.*'moved'"),
    ):
        apply(store, journal, begin(*TWO), YES, fine)
    assert transactions(tmp_path) == {}
    assert store.writes == []


def test_a_refused_dry_run_changes_nothing(tmp_path: Path) -> None:
    store = FakeStore(b="old")
    store.unchecked = {"b"}
    with Journal(str(tmp_path)) as journal, pytest.raises(WriteFailed, match="would refuse"):
        apply(store, journal, begin(*TWO), YES, fine)
    assert (store.writes, transactions(tmp_path)) == ([], {})


def test_nothing_is_written_over_what_could_not_be_put_back(tmp_path: Path) -> None:
    store = FakeStore(b="old")
    check = store.check

    def strict(address: str, state: Optional[str]) -> None:
        check(address, state)
        if state == "old":
            raise WriteFailed("no such set")

    store.check = strict  # type: ignore[method-assign]
    with (
        Journal(str(tmp_path)) as journal,
        pytest.raises(WriteFailed, match="b: what is there now could not be put back: no such set"),
    ):
        apply(store, journal, begin(*TWO), YES, fine)
    assert (store.states, store.writes) == ({"b": "old"}, [])


def test_what_can_neither_be_finished_nor_undone_is_in_force_until_it_is(tmp_path: Path) -> None:
    store = FakeStore(b="old")
    write = store.write

    def halfway(address: str, state: Optional[str]) -> None:
        write(address, state)
        if address == "b":
            store.broken.add("b")
            raise WriteFailed("I/O error")

    store.write = halfway  # type: ignore[method-assign]
    with Journal(str(tmp_path)) as journal:
        assert apply(store, journal, begin(*TWO), YES, fine).outcome == "incomplete"
    found = transactions(tmp_path)
    assert [h.resource for h in ledger.in_force(found).values()] == ["b"]
    assert store.states == {"a": None, "b": "new"}
    carried = ledger._carried(ledger.checkpoint(found), "checkpoint")
    assert [entry.stands for entry in carried] == [(1,)]
    (changes,) = ledger.to_roll_back(found).values()
    assert [c.resource for c in changes] == ["b"]


class CrashError(BaseException):
    """Stands for the death of the process: nothing of ours may run after it."""


@pytest.mark.parametrize("step", range(1, 5))
def test_recovery_after_a_crash_at_each_write(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer dies before the journal's step-th record, or in the write before it."""
    store = FakeStore(b="old")
    with Journal(str(tmp_path)) as journal:
        append, count = journal.append, 0

        def dying(*args: object, **kwargs: object) -> object:
            nonlocal count
            count += 1
            if count > step:
                raise CrashError
            return append(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(journal, "append", dying)
        monkeypatch.setattr(
            "remedies.transaction.run.undo", lambda *_, **__: Result("", "incomplete")
        )
        if step < 4:
            with pytest.raises(CrashError):
                apply(store, journal, begin(*TWO), YES, fine)
        else:
            apply(store, journal, begin(*TWO), YES, fine)
    found = transactions(tmp_path)
    dead = ledger.unfinished(found)
    assert len(dead) == (1 if step < 4 else 0)
    with Journal(str(tmp_path)) as journal:
        for entry in dead:
            assert undo.recover(store, journal, entry, "dead", YES).outcome == "rolled-back"
    if dead:
        assert (store.states.get("a"), store.states["b"]) == (None, "old")
    assert ledger.unfinished(transactions(tmp_path)) == ()


def roll_back(store: FakeStore, folder: Path, *, force: bool = False) -> Result:
    left = ledger.to_roll_back(transactions(folder))
    txn, changes = next(iter(left.items()))
    reverse = tuple(c.reversed() for c in reversed(changes))
    with Journal(str(folder)) as journal:
        return undo.roll_back(
            store, journal, begin(*reverse, kind="rollback", undoes=(txn,)), YES, force=force
        )


def test_rollback_restores_and_empties_the_ledger(tmp_path: Path) -> None:
    store = FakeStore(b="old")
    with Journal(str(tmp_path)) as journal:
        apply(store, journal, begin(*TWO), YES, fine)
    assert roll_back(store, tmp_path).outcome == "rolled-back"
    assert store.states == {"a": None, "b": "old"}
    assert ledger.in_force(transactions(tmp_path)) == {}
    assert ledger.to_roll_back(transactions(tmp_path)) == {}


def test_rollback_never_overwrites_a_third_party(tmp_path: Path) -> None:
    store = FakeStore(b="old")
    with Journal(str(tmp_path)) as journal:
        apply(store, journal, begin(*TWO), YES, fine)
    store.states["b"] = "theirs"
    with pytest.raises(Drift, match="before 'old', written by remedy 'new', now 'theirs'"):
        roll_back(store, tmp_path)
    assert store.states == {"a": "1", "b": "theirs"}
    assert roll_back(store, tmp_path, force=True).outcome == "rolled-back"
    assert store.states == {"a": None, "b": "old"}


def test_rollback_skips_what_is_back_already(tmp_path: Path) -> None:
    store = FakeStore(b="old")
    with Journal(str(tmp_path)) as journal:
        apply(store, journal, begin(*TWO), YES, fine)
    store.states["b"] = "old"
    store.writes.clear()
    assert roll_back(store, tmp_path).outcome == "rolled-back"
    assert store.writes == [("a", None)]


VALUES = st.sampled_from([None, "1", "2", "3"])


@settings(max_examples=60)
@given(
    start=st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2"])),
    steps=st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1), max_size=5),
)
def test_any_sequence_rolled_back_is_as_before(
    tmp_path_factory: pytest.TempPathFactory,
    start: dict[str, str],
    steps: list[dict[str, Optional[str]]],
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    store = FakeStore(**start)
    before = {address: store.read(address) for address in "abc"}
    for step in steps:
        changes = tuple(
            change(address, store.read(address), after)
            for address, after in step.items()
            if after != store.read(address)
        )
        if changes:
            with Journal(str(folder)) as journal:
                apply(store, journal, begin(*changes), YES, fine)
    while ledger.to_roll_back(transactions(folder)):
        roll_back(store, folder)
    assert {address: store.read(address) for address in "abc"} == before
    assert ledger.in_force(transactions(folder)) == {}


def test_transactions_of_one_second_have_ids_of_their_own() -> None:
    assert len({new_id() for _ in range(500)}) == 500


def test_states_that_differ_late_are_told_apart() -> None:
    head = "".join(f'{{"rule": {{"chain": "input", "expr": {n}}}}}\n' for n in range(9))
    one, other = head + "counter drop\n", head + "counter accept\n"
    long = "x" * 200
    for states in (
        (one, other),
        (one, other, None),
        (head, one),
        (long + "a", long + "b"),
        (long, long + "b"),
        (one, one + "counter drop\n"),
        ("a", long + "b", long + "c"),
    ):
        told = apart("nft:inet/remedy_x", *states)
        assert len(set(told)) == len(states), told
        assert all(len(text) <= 64 for text in told)
    assert apart("sysctl:a", "1", "0") == ("'1'", "'0'")
