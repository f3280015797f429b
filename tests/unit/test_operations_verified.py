"""What became of each fault, as a scan after the write tells it, and what is undone for it."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest
from builder import change, finding, plan, policy, scan
from fake_operations import FakeHost, fake_host

from remedies.model import Finding, Rule, Unknown
from remedies.operations import apply, session
from remedies.status.harm import Harm
from remedies.values import replace


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    return fake_host(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("after", "keep", "why"),
    [
        ([], False, None),
        (["absent", "mitigated"], False, None),
        (["absent", "still"], True, None),
        (["absent", "still"], False, "the fault is still there: c1; x hangs"),
        (["still", "still"], False, "the fault is still there: c0, c1; x hangs"),
    ],
)
def test_a_change_that_has_not_helped_is_undone_and_one_connection_is_named(
    after: list[str], keep: bool, why: Optional[str]
) -> None:
    verified = [{"condition": f"c{n}", "after": word} for n, word in enumerate(after)]
    seen = [finding(details={"hangs": name}) for name in ("x", "y")]
    assert apply.unwell(verified, (), keep=keep, seen=(finding(), *seen)) == why
    harm = (Harm("nft:a", "f", "it eats"), Harm("nft:b", "f", "that too"))
    assert apply.unwell(verified, harm, keep=keep, seen=seen) == "the fix does harm: nft:a: it eats"


BEFORE = finding(verdict="proven")
ANSWERED = change("sysctl:a", "0", finding=BEFORE.id)


@pytest.mark.parametrize(
    ("now", "unknown", "after"),
    [
        ((), (), "absent"),
        ((finding(verdict="proven"),), (), "still"),
        ((finding(verdict="active"),), (), "still"),
        ((finding(verdict="exposed"),), (), "still"),
        ((finding(verdict="mitigated"),), (), "mitigated"),
        ((finding(verdict="unknown"),), (), "not-observable"),
        ((), (Unknown("cond", "denied"),), "not-observable"),
        ((), (Unknown("cond", "a set was not read", partly=True),), "absent"),
        ((), (Unknown("other", "denied"),), "absent"),
        ((finding(verdict="proven", subject="another"),), (), "absent"),
    ],
)
def test_what_became_of_a_fault_is_read_from_the_scan_after_the_write(
    now: tuple[Finding, ...], unknown: tuple[Unknown, ...], after: str
) -> None:
    made = plan(ANSWERED, findings=(BEFORE, finding("unasked")))
    (row,) = apply.verdicts(made, scan(*now, unknown=unknown), ())
    assert row == {
        "finding": BEFORE.id,
        "condition": "cond",
        "before": "proven",
        "after": after,
    }


def test_a_fault_is_still_there_if_its_fix_does_harm_and_no_other_fault_is() -> None:
    other = change("sysctl:b", "0", fix="g", finding=finding("b").id)
    made = plan(ANSWERED, other, findings=(BEFORE, finding("b")))
    rows = apply.verdicts(made, scan(), (Harm("sysctl:a", "f", "it eats"),))
    assert [row["after"] for row in rows] == ["still", "absent"]


@pytest.mark.parametrize(
    ("before", "after"), [("exposed", "mitigated"), ("active", "still"), ("proven", "still")]
)
def test_a_hanging_connection_undoes_only_what_was_done_about_a_fault_that_was_seen(
    before: str, after: str
) -> None:
    made = plan(ANSWERED, findings=(finding(verdict=before),))
    hangs = finding(verdict="active", details={"hangs": "10.0.0.1:443"})
    assert [row["after"] for row in apply.verdicts(made, scan(hangs), ())] == [after]


FLOW, YOUNGER = "udp/10.0.0.1/1/10.0.0.2/2/7", "udp/10.0.0.1/1/10.0.0.2/2/8"


@pytest.mark.parametrize(
    ("ended", "stale", "after"),
    [
        (FLOW, FLOW, "still"),
        (FLOW, f"{FLOW} {YOUNGER}", "still"),
        (FLOW, YOUNGER, "absent"),
        (FLOW, "", "still"),
        ("", YOUNGER, "still"),
    ],
)
def test_flows_that_came_after_those_that_were_ended_are_another_fault(
    ended: str, stale: str, after: str
) -> None:
    resource = f"flow:{ended}" if ended else "sysctl:a"
    made = plan(change(resource, "there", None, finding=BEFORE.id), findings=(BEFORE,))
    found = finding(verdict="proven", details={"stale": stale} if stale else {})
    assert [row["after"] for row in apply.verdicts(made, scan(found), ())] == [after]


def test_what_became_of_a_fault_after_the_undoing_is_unknown_where_it_cannot_be_judged(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.heals = False
    cannot = scan(unknown=(Unknown("cond", "denied"),))
    partly = scan(unknown=(Unknown("cond", "a set was not read", partly=True),))
    ended = host.apply(keep=True)
    undone = replace(ended, outcome="rolled-back")
    for seen, after in ((cannot, "not-observable"), (partly, "absent")):
        monkeypatch.setattr(session, "judge", lambda *_, seen=seen: (seen, {}))
        assert [v["after"] for v in apply.finish(host.session, undone).verified] == [after]


def test_the_connection_that_still_hangs_is_named(host: FakeHost) -> None:
    host.heals, host.details = False, {"hangs": "10.0.0.1:443"}
    assert "10.0.0.1:443 hangs" in host.apply().reason


def test_the_journal_has_what_is_found_after_the_write_of_what_was_answered_alone(
    host: FakeHost,
) -> None:
    host.session = replace(
        host.session, policy=policy({"cond": Rule("fix", "proven", ("liberal",))})
    )
    host.heals, host.beside = False, (finding(subject="another"),)
    ended = host.apply(keep=True)
    recorded = session.reread(host.session).ledger[ended.transaction or ""].verified
    assert [f.id for f in recorded.findings] == [BEFORE.id]
