"""Every format: valid by its published schema, harmless with hostile values, the same twice."""

from __future__ import annotations

import base64
import csv
import functools
import importlib
import io
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import report_proofs
import report_samples as samples
from lxml import etree
from markdown_it import MarkdownIt
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from remedies import HOME
from remedies import report as reports
from remedies.errors import UsageError
from remedies.outcomes import JUDGED
from remedies.report.formats.csv import guarded
from remedies.report.record import Report, Rollout
from remedies.report.redact import fit
from remedies.report.schema import schema
from remedies.values import replace

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMAS = Path(__file__).parent / "schemas"
CHECKER = jsonschema.FormatChecker(("date-time", "uri", "uri-reference", "email"))
"""Named, because a format whose library is missing would be passed over in silence."""
SAMPLES = {
    "full": samples.full(),
    "fleet": samples.fleet(30),
    "nobody": replace(samples.fleet(1), hosts=()),
    **{f"hostile {i}": samples.poisoned(value) for i, value in enumerate(samples.HOSTILE)},
}
every_sample = pytest.mark.parametrize("name", SAMPLES)
every_format = pytest.mark.parametrize("form", reports.formats())


@functools.cache
def text(form: str, name: str) -> str:
    return rendered(form, SAMPLES[name])


def rendered(form: str, report: Report) -> str:
    return "".join(reports.load(form).render(fit(report)))


def test_the_formats_are_those_promised() -> None:
    assert set(reports.formats()) == {
        "json", "jsonl", "html", "markdown", "junit", "sarif", "oscal", "oscal-plan", "csv",
        "prometheus", "nagios",
    }  # fmt: skip
    with pytest.raises(UsageError, match="no report format 'pdf'; known: csv"):
        reports.load("pdf")


@every_format
def test_the_same_record_gives_the_same_bytes(form: str) -> None:
    for name in ("full", "fleet"):
        assert rendered(form, SAMPLES[name]) == text(form, name)


DIGESTS = """
import hashlib, sys
sys.path[:0] = sys.argv[1:]
import report_proofs, report_samples
from remedies import report
from remedies.report.redact import fit
for form in report.formats():
    for made in (report_proofs.proofs(), report_samples.fleet(30)):
        text = "".join(report.load(form).render(fit(made)))
        print(form, hashlib.sha256(text.encode()).hexdigest())
"""


def test_another_process_gives_the_same_bytes_too() -> None:
    """Sets and hashes of texts go another way in every process."""
    found = [
        subprocess.run(
            [sys.executable, "-c", DIGESTS, str(ROOT), str(Path(__file__).parent)],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True,
            check=True, timeout=120,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert found[0] == found[1]
    assert len(found[0].splitlines()) == 2 * len(reports.formats())


@every_format
@every_sample
def test_no_control_character_gets_through(form: str, name: str) -> None:
    found = {c for c in text(form, name) if not c.isprintable()}
    assert found <= {"\n", "\r", "\t"}
    assert "\r" not in found or form == "csv"


@every_format
def test_no_secret_and_no_home_path_gets_through(form: str) -> None:
    canary = "C4N4RYsecret"
    for value in (
        f"--password {canary}",
        f"--api-key={canary} x",
        f"https://u:{canary}@host/x",
        f"/home/{canary}/plan.json",
        f"/root/{canary}",
        f"Authorization: Bearer {canary}",
        f"DB_PASSWORD='{canary} two'",
        f"curl --token {canary} two words --next",
        f"prog\n--password\n{canary}\n-x",
        f"secret={canary}",
    ):
        out = rendered(form, samples.poisoned(value))
        assert canary not in out
        for encoded in re.findall(r'"value": "([A-Za-z0-9+/=]{200,})"', out):
            assert canary not in base64.b64decode(encoded).decode()


@pytest.mark.parametrize("form", sorted({*reports.formats()} - {"oscal-plan"}))
def test_why_a_rollout_failed_stands_in_every_format(form: str) -> None:
    """The plan of an assessment is made before anything was done."""
    host = samples.HOST
    why = "no new connection after applying"
    failed = replace(host, rollout=Rollout("reverted", 7, samples.TIME, "", why))
    assert why in rendered(form, replace(samples.full(), hosts=(failed,), run="r1"))
    well = replace(host, rollout=Rollout("confirmed", 0, samples.TIME))
    assert why not in rendered(form, replace(samples.full(), hosts=(well,), run="r1"))


@pytest.mark.parametrize("form", sorted({*reports.formats()} - {"oscal-plan"}))
def test_a_proven_fault_is_a_failure_in_every_format_whatever_its_history(form: str) -> None:
    """Whoever watches one figure, line or level must see it; the fix was rolled back once."""
    fault = replace(
        samples.RESET, outcome="fail", verdict="proven", history="rolled-back", transaction="t1"
    )
    host = replace(samples.HOST, judgements=(fault,), deeds=())
    out = rendered(form, replace(samples.full(), hosts=(host,)))
    marks = {
        "json": '"outcome": "fail"',
        "jsonl": '"outcome":"fail"',
        "html": 'class="badge o-fail"',
        "markdown": "| fail | proven |",
        "junit": '<failure message="proven:',
        "sarif": '"level": "error"',
        "oscal": '"state": "not-satisfied"',
        "csv": '"fail","proven"',
        "prometheus": 'outcome="fail",severity="critical",verdict="proven"',
        "nagios": "REMEDY CRITICAL - tcp-invalid-reset proven",
    }
    assert form in marks, f"it is not said how a fault looks in {form}: docs/writing-a-format.md, 2"
    assert marks[form] in out.replace("': ", '": ')
    if form not in ("prometheus", "nagios"):
        assert re.search("rolled[- ]back", out)


@pytest.mark.parametrize(
    "form", sorted({*reports.formats()} - {"nagios", "prometheus", "oscal-plan"})
)
def test_who_approved_a_change_stands_wherever_there_is_a_place(form: str) -> None:
    assert "bob" in text(form, "full")
    assert "CHG0042" in text(form, "full")


def test_json_follows_its_shipped_schema() -> None:
    shipped = json.loads((ROOT / "remedies/report/report.schema.json").read_text())
    assert shipped == schema(), "make it anew from remedies.report.schema"
    jsonschema.Draft202012Validator.check_schema(shipped)
    for name in SAMPLES:
        jsonschema.Draft202012Validator(shipped).validate(json.loads(text("json", name)))


@every_sample
def test_jsonl_is_one_object_a_line(name: str) -> None:
    lines = [json.loads(line) for line in text("jsonl", name).splitlines()]
    kinds = [line["kind"] for line in lines]
    assert kinds[0] == "report"
    assert kinds.count("host") == len(SAMPLES[name].hosts)
    assert kinds.count("judgement") == sum(len(h.judgements) for h in SAMPLES[name].hosts)


@every_sample
def test_sarif_follows_the_published_schema(name: str) -> None:
    plain = json.loads(text("sarif", name))
    schema_ = json.loads((SCHEMAS / "sarif-2.1.0-rtm.5.json").read_text())
    jsonschema.Draft4Validator(schema_, format_checker=CHECKER).validate(plain)
    (run,) = plain["runs"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]


def test_sarif_says_where_the_tool_and_each_rule_are_described() -> None:
    driver = json.loads(text("sarif", "full"))["runs"][0]["tool"]["driver"]
    assert driver["informationUri"] == f"{HOME}/"
    pages = {rule["helpUri"].removeprefix(f"{HOME}/") for rule in driver["rules"]}
    assert all((ROOT / page).is_file() for page in pages)
    assert len(pages) == len(driver["rules"])


def test_sarif_holds_faults_alone_at_their_policy_line() -> None:
    (run,) = json.loads(text("sarif", "full"))["runs"]
    assert [r["properties"]["outcome"] for r in run["results"]] == [
        "fail", "needs-human", "fail",
    ]  # fmt: skip
    (location,) = run["results"][0]["locations"]
    physical = location["physicalLocation"]
    assert physical["artifactLocation"]["uri"] == "policies/default.yaml"
    assert physical["region"]["startLine"] == 25
    assert len(run["results"][0]["partialFingerprints"]["remedyFinding/v1"]) == 64


def test_a_sarif_message_makes_no_link_and_no_placeholder() -> None:
    (run,) = json.loads(rendered("sarif", samples.poisoned(samples.BREAKERS)))["runs"]
    message = run["results"][0]["message"]["text"]
    assert "\\[a\\]" in message
    assert re.search(r"(?<!\{)\{0\}(?!\})", message) is None


@every_sample
def test_junit_follows_the_published_schema(name: str) -> None:
    checked = etree.XMLSchema(etree.parse(str(SCHEMAS / "junit-10.xsd")))
    checked.assertValid(etree.fromstring(text("junit", name).encode()))


def test_junit_counts_what_stands_as_failures() -> None:
    suite = ElementTree.fromstring(text("junit", "full")).find("testsuite")
    assert suite is not None
    counted = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counted == {"tests": "7", "failures": "3", "errors": "1", "skipped": "2"}


@functools.cache
def published(name: str) -> Any:
    """Return NIST's schema; its expressions are ECMAScript's, whose classes Python spells apart."""
    text = (SCHEMAS / f"oscal-1.2.1-{name}.json").read_text()
    for theirs, ours in ((r"\\p{L}", r"[^\\W\\d_]"), (r"\\p{N}", r"\\d")):
        text = text.replace(theirs, ours)
    return jsonschema.Draft7Validator(json.loads(text), format_checker=CHECKER)


@pytest.mark.parametrize(
    ("form", "schema_of"), [("oscal", "assessment-results"), ("oscal-plan", "assessment-plan")]
)
@every_sample
def test_oscal_follows_the_published_schema(form: str, schema_of: str, name: str) -> None:
    plain = json.loads(text(form, name))
    published(schema_of).validate(plain)
    del plain[schema_of]["metadata"]
    assert not published(schema_of).is_valid(plain), "the schema holds nobody to anything"


def test_oscal_names_who_approved_and_is_never_satisfied_with_a_host_missing() -> None:
    (result,) = json.loads(text("oscal", "fleet"))["assessment-results"]["results"]
    props = {(p["name"], p["value"]) for o in result["observations"] for p in o.get("props", ())}
    assert {("approved-by", "bob"), ("change-id", "CHG0042")} <= props
    assert {f["target"]["status"]["state"] for f in result["findings"]} == {"not-satisfied"}


def model(name: str) -> Any:
    """Return a module of OSCAL's models: half a second, which no other process need take."""
    return importlib.import_module(f"trestle.oscal.{name}")


@every_sample
def test_oscal_follows_the_model(name: str) -> None:
    plain = json.loads(text("oscal", name))
    results = model("assessment_results").AssessmentResults(**plain["assessment-results"])
    (resource,) = plain["assessment-results"]["back-matter"]["resources"]
    assert plain["assessment-results"]["import-ap"]["href"] == f"#{resource['uuid']}"
    inside = json.loads(base64.b64decode(resource["base64"]["value"]))
    beside = json.loads(text("oscal-plan", name))
    assert (
        inside["assessment-plan"]["uuid"] == beside["assessment-plan"]["uuid"] == resource["uuid"]
    )
    model("assessment_plan").AssessmentPlan(**beside["assessment-plan"])
    assert results.results[0].observations


def test_an_oscal_control_is_not_satisfied_where_a_fault_stands() -> None:
    (result,) = json.loads(text("oscal", "full"))["assessment-results"]["results"]
    states = {f["target"]["target-id"]: f["target"]["status"]["state"] for f in result["findings"]}
    assert states["sc-7_obj"] == "not-satisfied"
    known = {o["uuid"] for o in result["observations"]}
    for finding in result["findings"]:
        assert {o["observation-uuid"] for o in finding["related-observations"]} <= known


@every_sample
def test_prometheus_is_read_back(name: str) -> None:
    out = text("prometheus", name)
    families = {f.name: f for f in text_string_to_metric_families(out)}
    judged = families["remedy_judgements"].samples
    assert sum(s.value for s in judged) == sum(len(h.judgements) for h in SAMPLES[name].hosts)
    assert len({(s.name, *sorted(s.labels.items())) for s in judged}) == len(judged)
    read: Any = openmetrics.text_string_to_metric_families
    assert list(read(out + "# EOF\n"))


@every_sample
def test_no_csv_cell_is_a_formula(name: str) -> None:
    rows = list(csv.reader(io.StringIO(text("csv", name))))
    assert len({len(row) for row in rows}) == 1
    for row in rows[1:]:
        assert not any(cell.startswith(("=", "+", "-", "@", "|", "%", "\t")) for cell in row)
        assert all("\n" not in cell and len(cell) <= 32_767 for cell in row)


def test_a_formula_becomes_text() -> None:
    assert guarded(samples.FORMULA) == "'" + samples.FORMULA
    assert guarded(" \t@SUM(A1)") == "'@SUM(A1)"
    assert guarded("plain") == "plain"


@every_sample
def test_nagios_is_one_line_with_one_pipe(name: str) -> None:
    out = text("nagios", name)
    assert out.count("\n") == 1
    assert out.count("|") == 1
    assert re.match(r"REMEDY (OK|WARNING|CRITICAL|UNKNOWN) - ", out)


def test_nagios_says_the_worst() -> None:
    assert text("nagios", "full").startswith("REMEDY CRITICAL - tcp-invalid-reset proven")


@every_sample
def test_markdown_has_no_live_markup(name: str) -> None:
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text("markdown", name))
    inline = [child for token in tokens for child in token.children or ()]
    assert {t.content for t in inline if t.type == "html_inline"} <= {"<!-- -->"}
    assert not {"html_block", "heading_open5", "hr"} & {t.type for t in tokens}
    assert not {"link_open", "image", "html_block"} & {t.type for t in inline}
    for token in inline:
        assert token.type != "text" or "@everyone" not in token.content
    fences = [t.content for t in tokens if t.type == "fence"]
    wanted = sum(len(h.planned) + sum(len(d.changes) for d in h.deeds) for h in SAMPLES[name].hosts)
    assert len(fences) == wanted


class Page(HTMLParser):
    """What a page is made of, as a browser would see it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append(tag)
        self.attributes += [(key, value or "") for key, value in attributes]


@every_sample
def test_html_is_made_of_our_own_tags_alone(name: str) -> None:
    page = Page()
    page.feed(text("html", name))
    assert not {"img", "iframe", "object", "embed", "base"} & set(page.tags)
    assert page.tags.count("script") == page.tags.count("style") == 1
    for key, value in page.attributes:
        assert not key.startswith("on")
        assert key != "style"
        if key in ("href", "src"):
            assert value.startswith("#") or value == "data:,"


def test_html_says_every_outcome_in_words_and_marks() -> None:
    out = text("html", "full")
    for outcome in JUDGED:
        if any(j.outcome == outcome for j in samples.HOST.judgements):
            assert re.search(rf'o-{outcome}"><i aria-hidden="true">.</i>{outcome}<', out)


def test_html_draws_each_proven_path_with_its_addresses() -> None:
    out = text("html", "full")
    assert out.count('<svg class="picture"') == 3 + len(samples.SERIES)
    assert "becomes 10.21.17.99:47216" in out
    assert "bridge docker0" in out
    out = rendered("html", report_proofs.proofs())
    assert out.count('<svg class="picture"') == 14 + len(samples.SERIES)


def test_a_matrix_has_a_row_for_each_host() -> None:
    out = text("html", "fleet")
    matrix = out.partition('<table id="matrix"')[2].partition("</table>")[0]
    assert matrix.count('<th scope="row">') == 31
    assert "edge-9999.example.net" in out
