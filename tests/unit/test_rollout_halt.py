"""How many hosts of a rollout may fail before it stops, and what is undone then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_store import YES

from remedies.fleet import runner
from remedies.fleet.events import Hearing
from remedies.fleet.host_state import HostStanding
from remedies.fleet.rollout import RunningRollout
from remedies.fleet.rundir import Run, RunTerms, begin
from remedies.outcomes import HostState

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


BECOMES: dict[str, tuple[HostState, int]] = {
    "a": ("confirmed", 0), "b": ("applied", 1), "c": ("untouched", 5),
}  # fmt: skip


@pytest.mark.parametrize(("undo", "expected"), [
    ("batch", ["b"]), ("all", ["a", "b"]), ("none", []),
])  # fmt: skip
def test_what_is_undone_is_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undo: str, expected: list[str]
) -> None:
    """Of a batch that went wrong, or of all; never a host on which nothing is in force."""
    run = begin(str(tmp_path), RunTerms((), HOSTS, ("1", "2"), undo=undo))
    played: dict[str, list[str]] = {}

    def play(name: str, _site: object, hosts: Sequence[str], variables: dict[str, Any],
             _folder: str, hearing: Hearing, _agreed: object) -> None:  # fmt: skip
        played.setdefault(name, []).extend(hosts)
        hearing.begin(len(hosts))
        for host in hosts if name == "apply" else ():
            state, rc = BECOMES[host]
            hearing.word(HostStanding(host, state, rc, transaction=f"t-{host}"))
        if name == "rollback":
            assert variables["remedy_transactions"] == {host: f"t-{host}" for host in hosts}

    monkeypatch.setattr(runner, "play", play)
    ended = RunningRollout(run, YES, lambda _: None).go(HOSTS)
    assert (played["apply"], played.get("rollback", [])) == (["a", "b", "c"], expected)
    assert ended.halted == "1 of 2 hosts of the batch failed: b"
