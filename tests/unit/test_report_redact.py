"""What is taken out of a report, and what is left alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remedies.operations import report
from remedies.report.record import Actor, Report
from remedies.report.redact import HIDDEN, HOME, fit, redact


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("nc --password hunter2 -l 53", f"nc --password {HIDDEN} -l 53"),
        ("nc --password=hunter2 -l 53", f"nc --password={HIDDEN} -l 53"),
        ("app --token two words --port 5", f"app --token {HIDDEN} --port 5"),
        ("API_KEY=abc", f"API_KEY={HIDDEN}"),
        ('{"password": "two words", "a": 1}', f'{{"password": {HIDDEN}, "a": 1}}'),
        ("curl https://me:pw@host/x", f"curl https://{HIDDEN}@host/x"),
        ("Bearer abcdefgh1234", f"Bearer {HIDDEN}"),
        ("mysql -u root -psecret db", f"mysql -u root -p{HIDDEN}"),
        ("AKIAABCDEFGHIJKLMNOP", HIDDEN),
        ("ghp_abcdefghijklmnopqrst", HIDDEN),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n", HIDDEN),
        ("remedy apply /home/alice/plan.json", f"remedy apply {HOME}"),
        ("/root/.ssh/id_ed25519: no such file", f"{HOME}: no such file"),
    ],
)
def test_secrets_and_homes_go(text: str, left: str) -> None:
    assert redact(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "meta l4proto tcp ct state invalid counter drop",
        "remedy apply --yes --change-id CHG1 -m 'why not'",
        "/proc/net/stat/nf_conntrack",
        "10.21.17.99:47216 -> 10.21.17.1:443",
        "the rootless daemon, /rootfs/x and /var/lib/remedy",
        "passed 3 of 4",
    ],
)
def test_the_rest_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text())
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    assert redact(redact(text)) == redact(text)


def test_a_record_is_made_fit_through_and_through() -> None:
    made = fit((Actor(user="a\x1b[2J", comment="token: x"), {"k\x00": "v"}))
    assert made[0].user == r"a\x1b[2J"
    assert made[0].comment == f"token: {HIDDEN}"
    assert made[1] == {r"k\x00": "v"}


def test_what_is_fit_is_handed_back_itself() -> None:
    actor = Actor(user="alice")
    assert fit(actor) is actor


def test_a_sealed_report_has_its_times_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.25)
    by = Actor("root", command="x --token hunter2")
    made = report.sealed(Report(report.tool(), "", by, ()), 999.0)
    assert (made.seconds, made.by.command) == (1.2, f"x --token {HIDDEN}")
    assert made.made
