"""Waivers: which finding, until when, and what an expired one says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies.model import Finding, Waiver
from remedies.policy import waivers

FINDING = Finding("udp-reply-source", "udp 0.0.0.0:514", "proven", "high", "m")


def waiver(subject: str = "udp *:514", until: str = "2027-03-31", **others: str) -> Waiver:
    values = {"condition": "udp-reply-source", "reason": "syslog never answers", "owner": "netops"}
    return Waiver(subject=subject, until=until, **{**values, **others})


def test_a_waived_finding_says_why_who_and_until_when() -> None:
    (finding,), warnings = waivers.apply([FINDING], [waiver()], "2027-03-31")
    assert finding.waived == "syslog never answers (netops, until 2027-03-31)"
    assert finding.id == FINDING.id
    assert warnings == ()


@pytest.mark.parametrize(
    ("subject", "condition"),
    [
        ("UDP *:514", "udp-reply-source"),
        ("udp *:51", "udp-reply-source"),
        ("*", "conntrack-pressure"),
    ],
)
def test_what_does_not_match_is_not_waived(subject: str, condition: str) -> None:
    found, warnings = waivers.apply([FINDING], [waiver(subject, condition=condition)], "2026-01-01")
    assert found == (FINDING,)
    assert warnings == ()


def test_an_expired_waiver_warns_and_no_longer_counts() -> None:
    found, warnings = waivers.apply([FINDING], [waiver()], "2027-04-01")
    assert found == (FINDING,)
    assert warnings == (
        "waiver of udp-reply-source on 'udp *:514' (netops) expired on 2027-03-31 and no longer"
        " counts; renew it or remove it",
    )


def test_an_expired_waiver_does_not_hide_one_that_counts() -> None:
    both = [waiver(until="2020-01-01"), waiver("*")]
    (finding,), warnings = waivers.apply([FINDING], both, "2026-01-01")
    assert finding.waived is not None
    assert len(warnings) == 1


@given(st.dates(), st.dates())
def test_it_counts_through_its_last_day(until: object, today: object) -> None:
    assert waivers.expired(waiver(until=str(until)), str(today)) == (str(today) > str(until))


@given(st.text(max_size=30))
def test_any_subject_matches_the_pattern_of_all(subject: str) -> None:
    finding = Finding("udp-reply-source", subject, "active", "high", "m")
    (judged,), _ = waivers.apply([finding], [waiver("*")], "2026-01-01")
    assert judged.waived is not None
