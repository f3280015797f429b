"""The packet's path is read off the evidence, and not drawn where the evidence is no evidence."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
import report_proofs as proofs
import report_samples as samples
from hypothesis import given
from hypothesis import strategies as st

from remedies.report.picture import path_svg, plot_svg
from remedies.report.pictures import path
from remedies.report.record import Judgement
from remedies.values import replace


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
        "interface eth0",
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
    assert way.stops[1].title == "bridge docker0"
    assert way.stops[1].lines[0] == "172.17.0.1:56789"
    assert way.walks[-1].end == 0


def test_a_segment_of_the_client_dies_where_the_nat_gives_another_destination() -> None:
    way = path(proofs.FROM_OUTSIDE, proofs.INTERFACES)
    assert way is not None
    assert [s.title for s in way.stops] == [
        "Client", "interface eth0", "NAT on this host", "bridge docker0", "Server",
    ]  # fmt: skip
    assert way.stops[2].lines[:2] == ("10.21.17.99:443", "becomes 172.17.0.2:8443")
    lost, harm = way.walks[1:]
    assert (lost.start, lost.end, harm.start, harm.end) == (0, 2, 2, 0)


def test_a_datagram_dies_at_the_address_whose_socket_has_moved() -> None:
    way = path(proofs.CONNECTED, proofs.INTERFACES)
    assert way is not None
    assert [s.title for s in way.stops] == ["Client", "bridge docker0", "interface eth0", "Server"]
    assert way.stops[3].lines == ("172.17.0.1:56789", "connected to 172.17.0.2:60218", "nc")
    (lost,) = (w for w in way.walks if w.kind == "lost")
    assert way.stops[lost.end].lines[0] == "10.21.17.99:56789"


def test_a_hairpin_shows_the_proxy_and_the_container_behind_it() -> None:
    way = path(proofs.HAIRPIN, proofs.INTERFACES)
    assert way is not None
    assert [s.title for s in way.stops][-2:] == ["docker-proxy", "Container"]
    assert way.stops[-1].lines == ("172.17.0.3:53", "dns")
    assert (way.walks[-1].start, way.walks[-1].end) == (3, 0)


def test_a_notrack_rule_shows_both_rules_where_they_stand() -> None:
    way = path(proofs.MASQUERADE, proofs.INTERFACES)
    assert way is not None
    assert way.stops[0].lines == ("udp from 172.17.0.0/16 to port 5060",)
    assert way.stops[1].lines == ("nft ip lab_raw prerouting", "udp dport 5060 notrack")
    assert way.stops[2].lines == ("nft ip lab_nat postrouting", proofs.RULE)
    assert way.stops[3].title == "Peer"
    way = path(samples.NOTRACK, proofs.INTERFACES)
    assert way is not None
    assert way.stops[1].title == "interface eth0"
    assert way.stops[-1].lines == ("172.17.0.9:53",)


@pytest.mark.parametrize("judgement", proofs.proofs().hosts[0].judgements, ids=lambda j: j.id)
def test_every_proof_is_drawn_with_its_addresses_whole(judgement: Judgement) -> None:
    way = path(judgement, proofs.INTERFACES)
    assert way is not None
    assert [w.kind for w in way.walks].count("lost") == 1
    svg = ElementTree.fromstring(path_svg(way))
    assert svg.get("aria-label") == way.summary
    drawn = "".join(t.text or "" for t in svg.iter("text") if t.get("class") == "stop-line")
    for stop in way.stops:
        for line in stop.lines:
            if re.search(r":\d+$", line) or "/" in line[-4:]:
                assert line.replace(" ", "") in drawn.replace(" ", "")
    addresses = {a for w in way.walks for a in re.findall(r"\[[0-9a-f:]{30,}\]:\d+", w.label)}
    assert all(a in drawn.replace(" ", "") for a in addresses)
    assert all(len(t.text or "") <= 36 for t in svg.iter("text"))


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


@pytest.mark.parametrize("judgement", [samples.RESET, samples.REPLY, proofs.CONNECTED])
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
