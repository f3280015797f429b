"""What a report says first, and what stands in its matrix."""

from __future__ import annotations

import pytest
import report_samples as samples

from remedies import report as reports
from remedies.model import Severity
from remedies.outcomes import Judged
from remedies.report.headline import Tone, headline, sentence
from remedies.report.matrix import matrix
from remedies.report.record import HostReport, Judgement, Place, Report, Rollout, Seen, Unreached
from remedies.values import replace

WELL = replace(
    samples.RESET, outcome="pass", verdict="absent", evidence=(), message="not found", id="w"
)


def of(*judgements: Judgement) -> Report:
    host = replace(samples.HOST, judgements=judgements, planned=(), deeds=(), rollout=None)
    return replace(samples.full(), hosts=(host,), unreached=(), run="")


def judged(outcome: Judged, verdict: Seen, severity: Severity = "high") -> Judgement:
    return replace(samples.REPLY, outcome=outcome, verdict=verdict, severity=severity)


@pytest.mark.parametrize(
    ("judgements", "text", "tone"),
    [
        ((WELL,), "No open fault", "good"),
        ((judged("needs-human", "proven"), WELL), "1 fault is live", "bad"),
        ((judged("fail", "active"), samples.RESET), "2 faults are live", "bad"),
        ((judged("fail", "exposed"), WELL), "1 open fault, none live now", "warn"),
        ((judged("unknown", "unknown"), WELL), "No open fault, but not all was judged", "warn"),
        ((judged("fixed", "mitigated"),), "No open fault", "good"),
        ((), "Nothing was judged", "calm"),
    ],
)
def test_the_headline_is_the_verdict(
    judgements: tuple[Judgement, ...], text: str, tone: Tone
) -> None:
    said = headline(of(*judgements))
    assert (said.text, said.tone) == (text, tone)


def test_a_live_fault_stands_before_a_worse_one_that_only_could_happen() -> None:
    said = headline(of(judged("fail", "exposed", "critical"), judged("needs-human", "proven")))
    assert said.asks[0].endswith("(udp 0.0.0.0:56789): a person has to act, see the advice.")


def test_a_failed_rollout_says_why() -> None:
    why = "no new connection after applying"
    host = replace(of(WELL).hosts[0], rollout=Rollout("reverted", 7, samples.TIME, message=why))
    said = headline(replace(of(WELL), hosts=(host,)))
    assert (said.text, said.tone) == ("The rollout failed on 1 of 1 host", "bad")
    assert said.asks == (f"{host.place.name} reverted: {why}",)


def test_hosts_that_were_never_reached_are_no_good_news() -> None:
    said = headline(replace(of(WELL), unreached=(Unreached("web2", "timed out"),)))
    assert (said.text, said.tone) == ("1 host was never reached", "bad")


def test_what_is_counted_is_named() -> None:
    assert sentence(of(WELL, samples.REPLY)) == (
        "2 conditions on 1 host: 1 open fault, 1 proven now."
    )


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_pages_for_people_begin_with_it(form: str) -> None:
    text = "".join(reports.load(form).render(of(samples.RESET)))
    assert text.index("1 fault is live") < text.index(samples.RESET.message)


def test_two_namespaces_of_a_host_have_two_titles() -> None:
    made = of(WELL)
    host = made.hosts[0]
    pages = [
        "".join(reports.load("html").render(replace(made, hosts=(replace(host, place=place),))))
        for place in (Place("web1"), Place("web1", netns="402a9ba7-820"))
    ]
    assert "<title>Audit report: web1</title>" in pages[0]
    assert "<title>Audit report: web1, namespace 402a9ba7-820</title>" in pages[1]


def named(name: str, *judgements: Judgement) -> HostReport:
    return replace(of(*judgements).hosts[0], place=Place(name))


def test_the_matrix_has_no_column_for_what_is_well_everywhere() -> None:
    pressure = replace(WELL, condition="conntrack-pressure")
    exposed = judged("fail", "exposed")
    made = matrix(
        (
            named("web1", WELL, pressure, replace(exposed, outcome="pass")),
            named("web2", replace(WELL, outcome="fixed"), pressure, exposed),
        )
    )
    assert made.conditions == ("udp-reply-source", "tcp-invalid-reset")
    assert made.quiet == 1
    assert [(row.name, row.cells) for row in made.rows] == [
        ("web2", ("fail", "fixed")), ("web1", ("pass", "pass")),
    ]  # fmt: skip
    assert made.rows[1].outcomes == "pass"
