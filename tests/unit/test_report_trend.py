"""Two reports compared: what is better, what is worse, and which hosts came and went."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import report_samples as samples

from remedies import cli
from remedies import report as reports
from remedies.errors import InputError
from remedies.operations.report import compared
from remedies.outcomes import Judged
from remedies.report import trend
from remedies.report.record import HostReport, Judgement, Moved, Place, Report, Seen
from remedies.values import replace


def judged(condition: str, outcome: Judged, verdict: Seen, subject: str = "") -> Judgement:
    return replace(samples.RESET, condition=condition, outcome=outcome, verdict=verdict,
                   subject=subject, id=f"{condition}-{subject}", evidence=())  # fmt: skip


def host(name: str, *judgements: Judgement) -> HostReport:
    return replace(samples.HOST, place=Place(name), judgements=judgements)


def of(*hosts: HostReport) -> Report:
    return replace(samples.full(), hosts=hosts, unreached=(), made="2026-11-20T18:00:00Z")


BEFORE = of(
    host(
        "web1",
        judged("tcp-invalid-reset", "fail", "exposed", "tcp"),
        judged("udp-reply-source", "fail", "proven", "udp 1"),
        judged("udp-reply-source", "pass", "absent", "udp 2"),
        judged("stale-flow", "pass", "absent"),
    ),
    host("old", judged("stale-flow", "pass", "absent")),
)
NOW = of(
    host(
        "web1",
        judged("tcp-invalid-reset", "fail", "proven", "tcp"),
        judged("udp-reply-source", "fixed", "mitigated", "udp 9"),
        judged("stale-flow", "pass", "absent"),
        judged("mtu-black-hole", "fail", "proven"),
    ),
    host("new", judged("stale-flow", "fail", "proven")),
)


def test_what_moved_is_told_by_its_worst_subject() -> None:
    found = trend.trend(BEFORE, NOW)
    assert found.worse == (Moved("web1", "tcp-invalid-reset", "fail", "exposed", "fail", "proven"),)
    assert found.better == (
        Moved("web1", "udp-reply-source", "fail", "proven", "fixed", "mitigated"),
    )
    assert (found.same, found.new, found.gone) == (1, ("new",), ("old",))


def test_a_report_against_itself_has_not_moved() -> None:
    found = trend.trend(NOW, NOW)
    assert (found.better, found.worse, found.new, found.gone) == ((), (), (), ())


def test_two_namespaces_of_a_host_are_two() -> None:
    inside = of(replace(BEFORE.hosts[0], place=Place("web1", netns="402a9ba7-820")))
    assert trend.trend(BEFORE, inside).new == ("web1, namespace 402a9ba7-820",)


def test_a_report_is_read_back() -> None:
    made = compared(NOW, BEFORE)
    text = "".join(reports.load("json").render(made))
    assert trend.read(text, "a file") == made


@pytest.mark.parametrize("text", ["[]", "{}", '{"kind": "report", "format_version": "2.0"}', "{"])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"old\.json"):
        trend.read(text, "old.json")


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_people_read_what_moved(form: str) -> None:
    text = "".join(reports.load(form).render(compared(NOW, BEFORE)))
    assert "What changed since" in text
    assert "1 worse, 1 better, 1 as before" in text
    assert "What changed" not in "".join(reports.load(form).render(NOW))


def test_the_command_line_compares(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    words = ["report", "--no-scan", "--state-dir", str(tmp_path / "state")]
    assert cli.main([*words, "-o", f"json:{old}"]) == 0
    assert json.loads(old.read_text())["trend"] is None
    assert cli.main([*words, "--against", str(old), "-o", f"json:{new}"]) == 0
    assert json.loads(new.read_text())["trend"]["since"] == json.loads(old.read_text())["made"]
    assert cli.main([*words, "--against", str(tmp_path / "none.json")]) == 65
