"""``remedy report``: several formats in one run, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remedies import report as reports
from remedies.cli import main
from remedies.cli.report import since_when
from remedies.errors import UsageError
from remedies.facts.host import read_host
from remedies.model import Change
from remedies.transaction.journal import NAME, Journal
from remedies.transaction.ledger import Begin

CHANGE = Change(
    "invalid-drop", "f" * 16, "nft:inet/remedy_invalid_drop", "create", None, "t", "+t", "exact",
    "moderate", "drops",
)  # fmt: skip


def state(folder: Path) -> Path:
    place = folder / read_host().netns
    place.mkdir(parents=True)
    begin = Begin("apply", (CHANGE,), "0", "h", "m", "b", "root", "remedy apply --token X1Y2")
    with Journal(str(place)) as journal:
        journal.append("begin", "t1", begin.plain())
        journal.append("written", "t1", {"change": 0})
        journal.append("end", "t1", {"outcome": "applied"})
    return place / NAME


def run(folder: Path, *words: str) -> int:
    return main(["report", "--no-scan", "--state-dir", str(folder), *words])


def test_several_formats_from_one_record(tmp_path: Path) -> None:
    state(tmp_path)
    outputs = {form: tmp_path / f"report.{form}" for form in ("html", "json", "junit", "sarif")}
    words = [word for form, file in outputs.items() for word in ("-o", f"{form}:{file}")]
    assert run(tmp_path, *words) == 0
    plain = json.loads(outputs["json"].read_text())
    (host,) = plain["hosts"]
    assert [d["id"] for d in host["deeds"]] == ["t1"]
    assert host["chain"]["state"] == "intact"
    assert host["chain"]["records"] == 3
    for file in outputs.values():
        assert "X1Y2" not in file.read_text()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == sorted(
        f.name for f in outputs.values()
    )


def test_json_means_the_json_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state(tmp_path)
    assert run(tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "report"


def test_a_page_of_the_journal_alone_claims_no_health(tmp_path: Path) -> None:
    path = state(tmp_path)
    page = tmp_path / "page.html"
    assert run(tmp_path, "-o", f"html:{page}") == 0
    said = page.read_text()
    assert ">Nothing was judged<" in said
    assert "1 transaction of the journal alone." in said
    path.unlink()
    assert run(tmp_path, "-o", f"html:{page}") == 0
    assert "No open fault" not in page.read_text()
    assert run(tmp_path, "-o", f"nagios:{page}") == 0
    assert page.read_text().startswith("REMEDY UNKNOWN - nothing judged |")


def test_a_report_is_written_whatever_it_says(tmp_path: Path) -> None:
    """2 is of the verbs that judge: scan, status and verify."""
    path = state(tmp_path)
    assert run(tmp_path, "-o", f"json:{tmp_path}/a") == 0
    path.write_text(path.read_text().replace('"applied"', '"incomplete"'))
    assert run(tmp_path, "-o", f"json:{tmp_path}/b", "--head", "f" * 64) == 0


def test_the_same_journal_gives_the_same_bytes_times_aside(tmp_path: Path) -> None:
    state(tmp_path)
    texts = []
    for name in ("one", "two"):
        assert run(tmp_path, "-o", f"json:{tmp_path}/{name}") == 0
        plain = json.loads((tmp_path / name).read_text())
        plain["made"] = plain["seconds"] = plain["hosts"][0]["time"] = None
        texts.append(json.dumps(plain))
    assert texts[0] == texts[1]


def test_markdown_to_standard_output_is_the_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state(tmp_path)
    assert run(tmp_path) == 0
    assert capsys.readouterr().out.startswith("# Audit report: ")


def test_an_altered_journal_is_reported_up_to_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = state(tmp_path)
    path.write_text(path.read_text().replace('"applied"', '"nothing"'))
    assert run(tmp_path, "-o", "json:-") == 0
    said = capsys.readouterr()
    assert "record 3 was altered" in said.err
    (host,) = json.loads(said.out)["hosts"]
    assert host["chain"]["state"].startswith("record 3 was altered")
    assert [d["outcome"] for d in host["deeds"]] == ["unfinished"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "html"), "is not FORMAT:FILE"),
        (("-o", "pdf:x"), "no report format 'pdf'"),
        (("-o", "json:-", "-o", "csv:-"), "two outputs to standard output"),
        (("--since", "soon"), "--since 'soon' is not a time"),
        (("--txn", "nope"), "no transaction 'nope'"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    state(tmp_path)
    assert run(tmp_path, *words) == 64
    assert said in capsys.readouterr().err


def test_a_file_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state(tmp_path)
    assert run(tmp_path, "-o", f"json:{tmp_path}/none/report.json") == 1
    assert "cannot be written" in capsys.readouterr().err


def test_since_is_a_span_or_a_date() -> None:
    assert since_when("2026-11-01") == "2026-11-01T00:00:00Z"
    assert since_when("30d", 30 * 86400 + 1) == "1970-01-01T00:00:01Z"
    assert since_when("12h", 43200) == "1970-01-01T00:00:00Z"
    assert since_when(None) == ""
    with pytest.raises(UsageError):
        since_when("30")


def test_help_names_every_format(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reports, "formats", lambda: ("abc", "xyz"))
    with pytest.raises(SystemExit):
        main(["report", "--help"])
    assert "one of abc, xyz, and" in " ".join(capsys.readouterr().out.split())
