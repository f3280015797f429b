"""The journal for people: no more of it is read than is told, and what is read has to add up."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Optional, cast
from unittest import mock

import pytest
from builder import finding, plan

from remedies import cli
from remedies.errors import UsageError
from remedies.facts.host import read_host
from remedies.model import Change
from remedies.operations import naming
from remedies.outcomes import Kind
from remedies.planning import planfile
from remedies.transaction import journal, ledger
from remedies.transaction.journal import NAME, Journal, newest_first
from remedies.transaction.ledger import Begin
from remedies.transaction.segments import segments

CHANGE = Change("f", None, "sysctl:a", "update", "0", "1", "", "exact", "low", "")


def begin(kind: Kind = "apply", undoes: tuple[str, ...] = ()) -> dict[str, object]:
    return Begin(kind, (CHANGE,), "0", "h", "m", "b", "root", "remedy", undoes=undoes).plain()


@pytest.fixture
def first(tmp_path: Path) -> str:
    """Give the first of three segments with three transactions each, t0 to t8; t8 has no end."""
    folder = tmp_path / read_host().netns
    folder.mkdir(mode=0o700)
    path = str(folder / NAME)
    with Journal(str(folder)) as out:
        for number in range(9):
            if number in (3, 6):
                out.rotate(ledger.checkpoint(ledger.transactions(journal.latest(path))))
            out.append("begin", f"t{number}", begin())
            out.append("written", f"t{number}", {"change": 0})
            if number < 8:
                out.append("end", f"t{number}", {"outcome": "applied"})
    return path


def told(capsys: pytest.CaptureFixture[str], first: str, *words: str) -> dict[str, object]:
    state = os.path.dirname(os.path.dirname(first))
    assert cli.main([words[0], "--state-dir", state, "--json", *words[1:]]) == 0
    plain: dict[str, object] = json.loads(capsys.readouterr().out)
    return plain


def names(plain: dict[str, object]) -> list[str]:
    rows = plain["transactions"]
    assert isinstance(rows, list)
    return [row["transaction"] for row in rows]


def test_segments_come_newest_first_and_their_records_in_order(first: str) -> None:
    assert [[r.seq for r in part] for part in newest_first(first)] == [
        list(range(20, 29)),
        list(range(10, 20)),
        list(range(1, 10)),
    ]
    assert [part[0].seq for part in newest_first(first, "t4")] == [10]
    assert list(newest_first(os.path.join(os.path.dirname(first), "none.jsonl"))) == []


def test_each_transaction_is_told_once_newest_first(
    first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint carries what stands from segment to segment: that is no second transaction."""
    plain = told(capsys, first, "history", "--limit", "0")
    assert names(plain) == [f"t{number}" for number in range(8, -1, -1)]
    assert plain["older"] is False
    rows = plain["transactions"]
    assert isinstance(rows, list)
    assert [row["outcome"] for row in rows] == ["unfinished"] + ["applied"] * 8


def test_what_is_not_asked_for_is_not_read(first: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Were the older segments opened, this would fail: they are gone, or garbage."""
    oldest, middle, _ = segments(first)
    Path(oldest).write_text("garbage\n")
    plain = told(capsys, first, "history", "--limit", "3")
    assert (names(plain), plain["older"]) == (["t8", "t7", "t6"], True)
    assert names(told(capsys, first, "history", "--limit", "5")) == ["t8", "t7", "t6", "t5", "t4"]
    Path(middle).write_text("garbage\n")
    assert names(told(capsys, first, "history", "--limit", "2")) == ["t8", "t7"]


def test_text_says_that_there_are_older_ones(
    first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    state = os.path.dirname(os.path.dirname(first))
    with mock.patch("remedies.cli.history.NEWEST", 2):
        assert cli.main(["history", "--state-dir", state]) == 0
        assert "'remedy history --limit 0' shows all" in capsys.readouterr().out
    assert cli.main(["history", "--state-dir", state]) == 0
    assert "older" not in capsys.readouterr().out


@pytest.mark.parametrize("segment", [0, 1, 2])
def test_an_altered_record_is_named_where_it_was_looked_at(
    first: str, segment: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(segments(first)[segment])
    path.write_text(path.read_text().replace('"user":"root"', '"user":"toor"', 1))
    state = os.path.dirname(os.path.dirname(first))
    assert cli.main(["history", "--state-dir", state]) == 65
    assert f"{path.name}:" in capsys.readouterr().err


@pytest.mark.parametrize("cut", ["a record", "a segment", "the first"])
def test_a_gap_between_two_segments_is_named(
    first: str, cut: str, capsys: pytest.CaptureFixture[str]
) -> None:
    oldest, middle, _ = segments(first)
    if cut == "a record":
        lines = Path(middle).read_text().splitlines(keepends=True)
        Path(middle).write_text("".join(lines[:-1]))
    else:
        os.unlink(middle if cut == "a segment" else oldest)
    state = os.path.dirname(os.path.dirname(first))
    assert cli.main(["history", "--state-dir", state]) == 65
    said = capsys.readouterr().err
    assert "was altered or moved" in said if cut == "the first" else "record 20 goes on" in said
    assert cli.main(["audit", "repair", "--yes", "--state-dir", state]) == 0
    assert "Repaired" in capsys.readouterr().out
    left = names(told(capsys, first, "history", "--limit", "0"))
    assert len(left) == len(set(left))
    assert left[0] == "t8"
    assert len(left) >= 5
    assert cli.main(["audit", "verify", "--state-dir", state]) == 65


def test_one_is_shown_however_old_it_is(first: str, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (0, 4, 8):
        plain = told(capsys, first, "show", f"t{number}")
        assert (plain["transaction"], plain["written"]) == (f"t{number}", [0])
    state = os.path.dirname(os.path.dirname(first))
    for unknown in ("t9", "t", ""):
        assert cli.main(["show", "--state-dir", state, unknown]) == 64
    Path(segments(first)[0]).write_text("garbage\n")
    assert told(capsys, first, "show", "t4")["transaction"] == "t4"


@pytest.mark.parametrize(
    ("text", "meant"),
    [("last", "t8"), ("t3", "t3"), ("t", None), ("x", "x"), (None, None), ("", "")],
)
def test_a_transaction_goes_by_its_id_its_beginning_or_last(
    first: str, text: Optional[str], meant: Optional[str]
) -> None:
    folder = os.path.dirname(first)
    if text == "t":
        with pytest.raises(UsageError, match="9 transactions begin with 't': t8, t7, t6, t5, t4, "):
            naming.transaction_id(folder, text)
    else:
        assert naming.transaction_id(folder, text) == meant


def test_the_beginning_of_one_id_is_enough(first: str) -> None:
    with Journal(os.path.dirname(first)) as out:
        out.append("begin", "other", begin())
    assert naming.transaction_id(os.path.dirname(first), "ot") == "other"


def test_the_last_one_is_shown(first: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, first, "show", "last")["transaction"] == "t8"


def test_a_saved_plan_is_shown_too(
    tmp_path: Path, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.json"
    made = plan(findings=(finding("tcp-invalid-reset"),))
    path.write_text(json.dumps(planfile.plan_plain(made, {})))
    assert cli.main(["show", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "tcp-invalid-reset" in shown
    assert made.id in shown
    assert told(capsys, first, "show", str(path))["plan_id"] == made.id
    assert cli.main(["show", str(tmp_path / "none.json")]) == 65


def test_a_change_is_told_with_its_ticket_and_who_approved_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / read_host().netns
    folder.mkdir(mode=0o700)
    said = Begin("apply", (CHANGE,), "0", "h", "m", "b", "root", "remedy",
                 change_id="CHG42", approver="bob", comment="resets at night")  # fmt: skip
    with Journal(str(folder)) as out:
        out.append("begin", "t0", said.plain())
        out.append("end", "t0", {"outcome": "applied"})
    for words in (["history"], ["show", "last"]):
        assert cli.main([*words, "--state-dir", str(tmp_path)]) == 0
        assert "change CHG42, approved by bob, resets at night" in capsys.readouterr().out
    assert cli.main(["history", "-q", "--state-dir", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    (row,) = cast(Any, told(capsys, str(folder / NAME), "history")["transactions"])
    assert (row["change_id"], row["approver"]) == ("CHG42", "bob")
