"""Consent: nobody writes without one, a dry run gets none, and the journal says which it was."""

from __future__ import annotations

import ast
import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_store import YES, FakeStore

from remedies import codec
from remedies.model import Change
from remedies.outcomes import Kind
from remedies.transaction import consent, ledger, undo
from remedies.transaction.consent import Consent
from remedies.transaction.journal import NAME, Journal, records
from remedies.transaction.ledger import Begin, Transaction
from remedies.transaction.run import CheckedChange, apply, confirm_it

ROOT = Path(__file__).resolve().parents[2]
ONE = Change("f", None, "a", "update", "0", "1", "", "exact", "low", "")
WORDS = ("question", "--yes", "playbook", "confirm", "recovery")


def begin(kind: Kind = "apply") -> Begin:
    change = ONE if kind == "apply" else ONE.reversed()
    return Begin(kind, (change,), "0", "h", "m", "b", "root", "remedy")


def only(folder: Path) -> Transaction:
    (entry,) = ledger.transactions(records(str(folder / NAME))).values()
    return entry


WRITERS: dict[str, Callable[[FakeStore, Journal, Transaction, Any], object]] = {
    "apply": lambda store, journal, _, agreed: apply(
        store, journal, begin(), agreed, CheckedChange
    ),
    "roll_back": lambda store, journal, _, agreed: undo.roll_back(
        store, journal, begin("rollback"), agreed
    ),
    "recover": lambda store, journal, entry, agreed: undo.recover(
        store, journal, entry, "dead", agreed
    ),
    "confirm_it": lambda store, journal, entry, agreed: confirm_it(store, journal, entry, agreed),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("agreed", [None, True, "--yes", "playbook", consent])
def test_a_writer_writes_nothing_without_a_consent(
    tmp_path: Path, writer: str, agreed: object
) -> None:
    store = FakeStore(a="0")
    with Journal(str(tmp_path)) as journal:
        apply(store, journal, begin(), YES, CheckedChange, confirm=60)
        entry = only(tmp_path)
        store.states["a"] = "1" if writer != "apply" else "0"
        store.writes.clear()
        before = (tmp_path / NAME).read_bytes()
        with pytest.raises(TypeError, match="needs a consent"):
            WRITERS[writer](store, journal, entry, agreed)
        assert (store.writes, (tmp_path / NAME).read_bytes()) == ([], before)
        WRITERS[writer](store, journal, entry, YES)
        assert (tmp_path / NAME).read_bytes() != before


def made(dry_run: bool) -> Iterator[Callable[[], Consent | None]]:
    yield lambda: consent.answered("y\n", "al", dry_run=dry_run)
    yield lambda: consent.stated("--yes", "al", dry_run=dry_run)
    yield lambda: consent.played("al", check=dry_run)
    yield lambda: consent.confirmed("al", dry_run=dry_run)
    yield lambda: consent.recovering(dry_run=dry_run)


def test_a_dry_run_comes_by_no_consent() -> None:
    for make in made(dry_run=True):
        with pytest.raises(TypeError, match="a dry run has no consent"):
            make()
    assert [agreed.how for agreed in (make() for make in made(dry_run=False)) if agreed] == [*WORDS]


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "no\n", "yess", "Y es", "--yes"])
def test_no_other_answer_is_a_yes(answer: str) -> None:
    assert consent.answered(answer, "al", dry_run=False) is None
    assert consent.stated("", "al", dry_run=False) is None


def test_a_consent_is_neither_made_up_nor_copied_nor_changed() -> None:
    with pytest.raises(TypeError):
        Consent("--yes", "root", None)
    with pytest.raises(TypeError):
        Consent("--yes", "root")  # type: ignore[call-arg]
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="not copied"):
            copied(YES)
    with pytest.raises(TypeError, match="does not change"):
        YES.how = "question"


def test_the_journal_says_how_it_was_agreed_to(tmp_path: Path) -> None:
    asked = consent.answered("y", "al", dry_run=False)
    kept = consent.confirmed("bo", dry_run=False)
    assert asked is not None
    with Journal(str(tmp_path)) as journal:
        apply(FakeStore(a="0"), journal, begin(), asked, CheckedChange, confirm=60)
        confirm_it(FakeStore(a="1"), journal, only(tmp_path), kept)
    entry = only(tmp_path)
    assert (entry.begin.consent, entry.confirmed_by) == ("question", "bo")
    (end,) = (r for r in records(str(tmp_path / NAME)) if r.kind == "end")
    assert end.data == {"outcome": "confirmed", "user": "bo", "consent": "confirm"}


def test_a_journal_from_before_there_was_a_consent_is_read() -> None:
    plain = begin().plain()
    del plain["consent"]
    assert codec.decode(Begin, plain, "journal").consent == ""


DRY = {"args.dry_run", "here.dry_run", "self._task.check_mode"}
MADE_IN = {
    "answered": {"remedies/cli/consenting.py", "remedies/cli/waiting.py"},
    "stated": {"remedies/cli/consenting.py"},
    "played": {"playbooks/action_plugins/remedy.py"},
    "confirmed": {"remedies/operations/confirm.py"},
    "recovering": {
        "remedies/operations/confirm.py",
        "remedies/operations/recovery.py",
        "remedies/transaction/rescue.py",
    },
}


def test_a_consent_is_made_in_few_places_which_all_ask_whether_it_is_a_dry_run() -> None:
    """The guard alone does not ask: only a writer that had a consent has armed it."""
    found: dict[str, set[str]] = {name: set() for name in MADE_IN}
    sources = [*(ROOT / "remedies").rglob("*.py"), *(ROOT / "playbooks").rglob("*.py")]
    for source in sources:
        where = str(source.relative_to(ROOT))
        for node in ast.walk(ast.parse(source.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr not in MADE_IN or ast.unparse(node.func.value) != "consent":
                continue
            found[node.func.attr].add(where)
            (asked,) = (ast.unparse(k.value) for k in node.keywords)
            assert asked in DRY or where == "remedies/transaction/rescue.py", (where, asked)
    assert found == MADE_IN
