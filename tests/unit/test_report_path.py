"""The packet's path is read off the evidence, and not drawn where the evidence is no evidence."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
import report_samples as samples
from hypothesis import given
from hypothesis import strategies as st

from remedies.report.path import path
from remedies.report.picture import path_svg, plot_svg
from remedies.report.record import Judgement


def changed(judgement: Judgement, value: str) -> Judgement:
    return replace(
        judgement,
        evidence=tuple(replace(e, value=value, note=value) for e in judgement.evidence),
    )


def test_a_reset_dies_at_the_nat() -> None:
    way = path(samples.RESET, samples.INTERFACES)
    assert way is not None
    assert [s.title for s in way.stops] == [
        "Client",
        "bridge docker0",
        "NAT on this host",
        "Server",
    ]
    lost = [w for w in way.walks if w.kind == "lost"]
    assert [(way.stops[w.start].title, way.stops[w.end].title) for w in lost] == [
        ("Server", "NAT on this host")
    ]
    assert "172.17.0.2:52110" in way.summary


def test_an_answer_from_another_address_dies_at_the_client() -> None:
    way = path(samples.REPLY, samples.INTERFACES)
    assert way is not None
    assert way.stops[1].lines == ("172.17.0.1 on docker0",)
    assert way.walks[-1].end == 0


def test_ipv6_is_drawn_too() -> None:
    evidence = tuple(
        replace(
            e,
            value=e.value.replace("172.17.0.2:", "[fd00::2]:").replace("10.21.17.1:", "[fd01::1]:"),
            note=e.note.replace("10.21.17.1:", "[fd01::1]:").replace("10.21.17.99:", "[fd01::9]:"),
        )
        for e in samples.RESET.evidence
    )
    evidence = tuple(
        replace(e, value="[fd01::9]:47216 -> [fd01::1]:443") if e.key == "reset sent" else e
        for e in evidence
    )
    way = path(replace(samples.RESET, evidence=evidence), ())
    assert way is not None
    assert way.stops[0].lines == ("[fd00::2]:52110",)


@pytest.mark.parametrize("judgement", [samples.RESET, samples.REPLY])
@pytest.mark.parametrize("value", samples.HOSTILE)
def test_garbled_evidence_is_not_drawn(judgement: Judgement, value: str) -> None:
    assert path(changed(judgement, value), samples.INTERFACES) is None


def test_what_is_not_proven_is_not_drawn() -> None:
    assert path(replace(samples.RESET, verdict="active"), samples.INTERFACES) is None


@given(st.text(max_size=300))
def test_any_text_makes_a_well_formed_picture(text: str) -> None:
    fit = "".join(c for c in text if c.isprintable())
    way = path(replace(samples.NOTRACK, details={"notrack": fit or "x", "nat": fit or "x"}), ())
    assert way is not None
    svg = ElementTree.fromstring(path_svg(way))
    assert svg.get("role") == "img"
    assert svg.get("aria-label")


def test_a_plot_says_its_figures_in_words() -> None:
    svg = ElementTree.fromstring(plot_svg(samples.SERIES[0]))
    assert svg.get("aria-label") == (
        "/proc/net/stat/nf_conntrack invalid in 1 s: before 4, after 3, now 4"
    )
