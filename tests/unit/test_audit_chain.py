"""The chain: whatever is done to a journal, the record is named by its number."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remedies import codec
from remedies.cli import main
from remedies.errors import InputError
from remedies.facts.host import read_host
from remedies.transaction import audit, record, usual_line
from remedies.transaction.audit import verify
from remedies.transaction.journal import NAME, Journal, records


def filled(folder: Path, number: int = 6) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with Journal(str(folder)) as journal:
        for n in range(number):
            journal.append("begin", f"t{n}", {"n": n})
    return folder / NAME


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, plain: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(p, separators=(",", ":")) + "\n" for p in plain))


def sealed(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a record with its hash made anew, as a forger would."""
    body = {key: value for key, value in plain.items() if key != "hash"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return {**plain, "hash": hashlib.sha256(text.encode()).hexdigest()}


def found(path: Path, head: str | None = None) -> list[str]:
    return [f"{p.record} {p.what}" for p in verify(str(path), head).problems]


def test_an_untouched_journal_holds(tmp_path: Path) -> None:
    path = filled(tmp_path)
    checked = verify(str(path))
    assert (checked.records, checked.problems) == (6, [])
    assert checked.head == lines(path)[-1]["hash"]


def test_no_journal_holds_nothing(tmp_path: Path) -> None:
    checked = verify(str(tmp_path / NAME))
    assert (checked.records, checked.head, checked.problems) == (0, "0" * 64, [])


def test_an_altered_record(tmp_path: Path) -> None:
    path = filled(tmp_path)
    plain = lines(path)
    plain[2]["data"]["n"] = 99
    write(path, plain)
    assert found(path) == ["3 was altered"]


@pytest.mark.parametrize(
    ("gone", "said"),
    [((2,), "3 was removed"), ((1, 2, 3), "2 to 4 were removed"), ((0,), "1 was removed")],
)
def test_removed_records(tmp_path: Path, gone: tuple[int, ...], said: str) -> None:
    path = filled(tmp_path)
    write(path, [p for n, p in enumerate(lines(path)) if n not in gone])
    assert found(path) == [said]


def test_moved_records(tmp_path: Path) -> None:
    path = filled(tmp_path)
    one, two, three, *rest = lines(path)
    write(path, [one, three, two, *rest])
    assert found(path) == ["2 was moved: it comes after record 3"]


def test_a_record_twice(tmp_path: Path) -> None:
    path = filled(tmp_path)
    one, two, *rest = lines(path)
    write(path, [one, two, two, *rest])
    assert found(path) == ["2 is there twice"]


def test_a_replaced_record_with_a_hash_that_fits(tmp_path: Path) -> None:
    path = filled(tmp_path)
    plain = lines(path)
    plain[3] = sealed({**plain[3], "data": {"n": "forged"}})
    write(path, plain)
    assert found(path) == ["4 was replaced"]


@pytest.mark.parametrize(
    "other",
    [
        lambda line: '{"data":{"n":"forged"},"time":"1999",' + line[1:],
        lambda line: line.replace('"data":{', '"data":{"n":7,'),
        lambda line: line.replace('":', '": '),
        lambda line: " " + line,
        lambda line: json.dumps(dict(reversed(json.loads(line).items())), separators=(",", ":")),
        lambda line: line.replace('"t2"', '"\\u0074\\u0032"'),
    ],
)
def test_a_record_is_the_bytes_that_were_written(
    tmp_path: Path, other: Callable[[str], str]
) -> None:
    """What means the same to a loose reader may mean something else to the next one."""
    path = filled(tmp_path)
    text = path.read_text().splitlines()
    text[2] = other(text[2])
    path.write_text("\n".join(text) + "\n")
    assert found(path) == ["3 was altered"]


@pytest.mark.parametrize("closed", [False, True])
def test_a_lost_block_of_the_last_record_is_named_even_after_the_tool_has_gone_on(
    tmp_path: Path, closed: bool
) -> None:
    path = filled(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[-100:-50] = bytes(50)
    path.write_bytes(whole)
    if closed:
        with Journal(str(tmp_path)) as journal:
            journal.append("begin", "t", {})
    said = "6 cannot be read" + (", and later records follow it" if closed else "")
    assert found(path) == [said]


def test_a_garbled_record(tmp_path: Path) -> None:
    path = filled(tmp_path)
    text = path.read_text().splitlines()
    text[1] = "not JSON"
    path.write_text("\n".join(text) + "\n")
    assert found(path) == ["2 cannot be read"]


def test_a_torn_end_is_no_alteration(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with path.open("a") as file:
        file.write('{"v":2,"seq"')
    assert found(path) == []
    with Journal(str(tmp_path)) as journal:
        journal.append("begin", "t", {})
    assert found(path) == []


def test_segments_are_one_chain(tmp_path: Path) -> None:
    path = filled(tmp_path, 3)
    with Journal(str(tmp_path)) as journal:
        journal.rotate({"transactions": []})
        journal.append("begin", "t", {})
    assert verify(str(path)).records == 5
    assert found(path) == []
    path.unlink()
    assert found(path) == ["1 to 3 were removed"]
    assert not verify(str(path)).holds(None)


def test_a_cut_tail_shows_against_an_anchor_alone(tmp_path: Path) -> None:
    path = filled(tmp_path)
    plain = lines(path)
    write(path, plain[:4])
    assert found(path) == []
    checked = verify(str(path), plain[-1]["hash"])
    assert checked.anchor == 0
    assert not checked.holds(plain[-1]["hash"])
    assert checked.holds("")
    kept = verify(str(path), plain[3]["hash"])
    assert kept.anchor == 4
    assert kept.holds(plain[3]["hash"])


def test_a_rewritten_chain_shows_against_an_anchor_alone(tmp_path: Path) -> None:
    path = filled(tmp_path)
    head = lines(path)[-1]["hash"]
    path.unlink()
    with Journal(str(tmp_path)) as journal:
        for n in range(6):
            journal.append("begin", f"t{n}", {"n": n + 1})
    assert found(path) == []
    assert verify(str(path), head).anchor == 0


@settings(max_examples=60)
@given(st.data())
def test_any_flipped_byte_is_found_at_its_record(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = filled(tmp_path_factory.mktemp("flip"))
    text = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(text) - 2))
    text[place] ^= 1 << data.draw(st.integers(0, 6))
    number = path.read_bytes()[:place].count(b"\n") + 1
    path.write_bytes(bytes(text))
    problems = verify(str(path)).problems
    assert problems
    assert abs(problems[0].record - number) <= 1, "a flipped line end joins two records"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
_INSERTED = (
    "",
    " ",
    "0",
    "e",
    "\\",
    '"',
    "\x7f",
    "\n",
    "{}",
    "\\u0041",
    "\\u00E9",
    '"a":1,',
    ".0",
    "-",
)


@settings(max_examples=400)
@given(st.dictionaries(st.text(max_size=4), _JSON, max_size=3), st.data())
def test_a_line_of_the_usual_form_is_read_as_any_other_line_is(
    value: dict[str, Any], data: st.DataObject
) -> None:
    """Whatever is done to a line: what is not looked at closely is what a close look finds."""
    own = record.sealed("written", "t1", value, 7, "0" * 64)
    text = record.line_of(own).decode()[:-1]
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(text)))
        gone = data.draw(st.integers(0, 2))
        text = text[:place] + data.draw(st.sampled_from(_INSERTED)) + text[place + gone :]
    try:
        closely = audit._plain(text)
    except ValueError:
        closely = None
    assert usual_line.usual(text) in (None, closely)
    try:
        plain = codec.loads(text, "", recorded=True)
        strictly = codec.decode(record.Record, plain, "")
        whole = record.digest(plain) == plain["hash"]
    except InputError:
        with pytest.raises(InputError):
            record.parse(text.encode(), "")
    else:
        if strictly.v <= record.VERSION:
            said, bears = record.parse(text.encode(), "")
            assert {name: getattr(said, name) for name in vars(strictly)} == vars(strictly)
            assert bears == whole


@pytest.mark.parametrize(
    ("value", "usual"),
    [
        ({"change": 0}, True),
        ({"b": '\n"\\', "a": [{"d": -1, "c": None}]}, True),
        ({"clock": 1.5}, False),
        ({"comment": "\u00e9"}, False),
    ],
)
def test_what_the_writer_writes_is_of_the_usual_form(value: dict[str, Any], usual: bool) -> None:
    text = record.line_of(record.sealed("written", "t1", value, 7, "0" * 64)).decode()[:-1]
    found = usual_line.usual(text)
    assert (found is not None) == usual
    assert audit._plain(text) == found or not usual


@pytest.mark.parametrize(
    "other",
    [
        '{"a":1e5,"b":2     }',
        '{"a":"\x7f","b":2     }',
        '{"a":"\\u00E9"}',
        '{"a":-0}',
        '{"a":1,"a":1}',
        '{},"data":{}',
        '{"a":NaN}',
        '{"a":' + "[" * 63 + "]" * 63 + "}",
    ],
)
def test_data_that_is_as_long_as_its_canonical_text_and_differs_gets_a_close_look(
    other: str,
) -> None:
    text = record.line_of(record.sealed("written", "t1", {}, 7, "0" * 64)).decode()[:-1]
    assert usual_line.usual(text) is not None
    assert usual_line.usual(text.replace('"data":{}', f'"data":{other}')) is None


def cli(folder: Path, *words: str) -> int:
    return main(["audit", *words, "--state-dir", str(folder)])


def state(folder: Path) -> Path:
    return filled(folder / read_host().netns)


def test_the_verb_says_what_and_by_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = state(tmp_path)
    head = lines(path)[-1]["hash"]
    assert cli(tmp_path, "verify") == 0
    assert "verified only against itself" in capsys.readouterr().out
    assert cli(tmp_path, "verify", "--head", head) == 0
    assert "anchored: that head is record 6 of 6" in capsys.readouterr().out
    assert cli(tmp_path, "verify", "--head", "f" * 64) == 65
    assert "that head is not in the chain" in capsys.readouterr().out
    plain = lines(path)
    plain[2]["data"]["n"] = 99
    write(path, plain)
    assert cli(tmp_path, "verify") == 65
    assert "altered: record 3 was altered (journal.jsonl:3)" in capsys.readouterr().out
    assert cli(tmp_path, "verify", "--json") == 65
    assert json.loads(capsys.readouterr().out)["problems"][0]["record"] == 3


def test_a_signature_is_ssh_keygens_and_anchors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = state(tmp_path)
    key, out, signers = tmp_path / "key", tmp_path / "head.json", tmp_path / "signers"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30
    )
    signers.write_text(f"auditor {key.with_suffix('.pub').read_text()}")
    assert cli(tmp_path, "sign", "--key", str(key), "-o", str(out)) == 0
    assert "does not prove that what the journal says is true" in capsys.readouterr().out
    checked = ("--signed", str(out), "--allowed-signers", str(signers), "--signer", "auditor")
    assert cli(tmp_path, "verify", *checked) == 0
    assert "anchored: that head is record 6" in capsys.readouterr().out
    write(path, lines(path)[:3])
    assert cli(tmp_path, "verify", *checked) == 65
    out.write_text(out.read_text().replace('"records": 6', '"records": 3'))
    assert cli(tmp_path, "verify", *checked) == 65
    assert "ssh-keygen -Y verify" in capsys.readouterr().err


def test_what_is_passed_on_ends_where_it_stops_adding_up(tmp_path: Path) -> None:
    from remedies.transaction.audit import Audit, walk

    path = filled(tmp_path)
    assert [r.seq for r in walk(str(path), Audit())] == [r.seq for r in records(str(path))]
    plain = lines(path)
    write(path, [*plain[:2], *plain[3:]])
    assert [r.seq for r in walk(str(path), Audit())] == [1, 2]
