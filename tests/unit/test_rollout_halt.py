"""How many hosts of a rollout may fail before it stops."""

from __future__ import annotations

import pytest
from fake_store import YES

from remedies.fleet.host_state import HostStanding
from remedies.fleet.rollout import RunningRollout
from remedies.fleet.rundir import Run, RunTerms

HOSTS = ("a", "b", "c", "d")


def halts(bad: int, *, failed: int | None = None, fail: int = 0, percent: float = 0.0) -> bool:
    """Tell whether a batch of four of which ``bad`` fail stops a rollout."""
    asked = RunTerms((), HOSTS, (), max_fail=fail, max_fail_percentage=percent)
    rollout = RunningRollout(Run("/nowhere/run", asked), YES, lambda _: None)
    now = {h: HostStanding(h, "needs-human" if i < bad else "confirmed", rc=4 if i < bad else 0)
           for i, h in enumerate(HOSTS)}  # fmt: skip
    return bool(rollout._why_halt(HOSTS, HOSTS[:bad], bad if failed is None else failed, now))


@pytest.mark.parametrize(("bad", "fail", "expected"), [
    (0, 0, False), (1, 0, True), (1, 1, False), (2, 1, True), (2, 2, False), (3, 2, True),
])  # fmt: skip
def test_as_many_as_were_allowed_and_no_more(bad: int, fail: int, expected: bool) -> None:
    assert halts(bad, fail=fail) is expected


def test_those_of_earlier_batches_count() -> None:
    assert halts(1, failed=2, fail=1)
    assert not halts(0, failed=2, fail=1), "no host of this batch failed"


@pytest.mark.parametrize(("bad", "percent", "expected"), [
    (1, 25.0, False), (1, 24.9, True), (2, 50.0, False), (3, 50.0, True),
])  # fmt: skip
def test_a_share_of_the_batch(bad: int, percent: float, expected: bool) -> None:
    assert halts(bad, percent=percent) is expected
