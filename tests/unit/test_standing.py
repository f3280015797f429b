"""When status and verify fail: what is not as it was left, and what still hurts somebody."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from builder import finding, scan

from remedies import catalogue
from remedies.model import Verdict
from remedies.netfilter.bypass import Bypass
from remedies.operations import standing
from remedies.operations.outlook import Outlook
from remedies.operations.standing import HostStatus
from remedies.status.in_force import HeldState, InForce
from remedies.values import replace

WELL = HostStatus((InForce("t1", "f", "a", "ours"),), Outlook((), ()), {}, ())


def test_what_is_ours_and_over_is_well() -> None:
    assert not WELL.bad
    assert not replace(WELL, unfinished={"t2": "pending"}).bad, "it waits, as it was asked to"


@pytest.mark.parametrize("state", ["drifted", "gone", "unknown"])
def test_what_is_not_as_it_was_left_is_bad(state: HeldState) -> None:
    assert replace(WELL, entries=(InForce("t1", "f", "a", state),)).bad


@pytest.mark.parametrize("why", ["writing", "dead", "expired", "unguarded", "stray", "stuck"])
def test_what_was_never_finished_is_bad(why: str) -> None:
    assert replace(WELL, unfinished={"t2": why, "t3": "pending"}).bad


def test_what_no_journal_knows_and_what_is_bypassed_is_bad() -> None:
    assert replace(WELL, unowned=("nft:inet/remedy_x",)).bad
    bypass = Bypass("a", "ip", "forward", "own", "rule", "place")
    assert replace(WELL, outlook=Outlook((), (), (bypass,))).bad


@pytest.mark.parametrize(
    ("verdict", "condition", "fails"),
    [
        ("proven", "other", True),
        ("active", "other", True),
        ("exposed", "other", False),
        ("exposed", "answered", True),
        ("mitigated", "answered", False),
        ("unknown", "answered", False),
    ],
)
def test_verify_fails_for_what_is_seen_and_for_what_a_fix_should_cover(
    verdict: Verdict, condition: str, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "fix", lambda _: SimpleNamespace(ANSWERS=("answered",)))
    found = finding(condition, verdict=verdict)
    assert bool(standing.faults(WELL, scan(found))) is fails
    assert standing.faults(WELL, scan(replace(found, waived="until 2030, by al"))) == []
