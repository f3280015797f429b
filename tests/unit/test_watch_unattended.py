"""What a watch applies with nobody there: what of a plan, how often, and what stops it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from builder import HOST, change, finding, plan, policy

from remedies import codec
from remedies.model import Rule, Unattended
from remedies.namespaces.find import Namespace
from remedies.namespaces.workers import WorkerResult
from remedies.operations.session import HostSession
from remedies.operations.unattended import UnattendedEnd
from remedies.outcomes import Outcome
from remedies.planning import unattended
from remedies.values import replace
from remedies.watch import allowance, applier, baseline, pulse
from remedies.watch.allowance import HOUR, REMEMBERED, Allowed, UnattendedApply
from remedies.watch.applier import Applier, PlacedApply
from remedies.watch.baseline import WatchPlace
from remedies.watch.events import Sighting
from remedies.watch.track import Track

NOW = 1_000_000.0
CONDITION = "tcp-invalid-reset"
TERMS = Unattended((CONDITION,), budget=2, each=1)
ALLOWING = policy({CONDITION: Rule("fix", "exposed", ("tcp-be-liberal",))}, unattended=TERMS)


def done(
    ago: float, key: str = "host", condition: str = "other", *, once: bool = False
) -> UnattendedApply:
    return UnattendedApply(NOW - ago, key, condition, "applied", "t1", once)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ((), Allowed(True)),
        ((done(HOUR - 1),), "for one namespace"),
        ((done(HOUR),), Allowed(True)),
        ((done(1, "a"),), Allowed(True)),
        ((done(1, "a"), done(HOUR - 1, "b")), "budget of 2 applies"),
        ((done(1, "a"), done(HOUR, "b")), Allowed(True)),
        ((done(REMEMBERED - 1, condition=CONDITION),), "back after transaction t1"),
        ((done(REMEMBERED, condition=CONDITION),), Allowed(True)),
        ((done(1, "a", CONDITION),), Allowed(True)),
        ((done(HOUR, condition=CONDITION, once=True),), Allowed(True)),
        ((done(1, condition=CONDITION, once=True),), "for one namespace"),
    ],
)
def test_a_budget_counts_an_hour_and_what_comes_back_stops(
    before: tuple[UnattendedApply, ...], expected: Allowed | str
) -> None:
    answer = allowance.ask(TERMS, before, "host", CONDITION, NOW)
    if isinstance(expected, Allowed):
        assert answer == expected
    else:
        assert expected in answer.why
        assert (answer.go, answer.stop) == (False, "back" in expected)


@pytest.mark.parametrize(
    ("outcome", "stops"),
    [("applied", False), (None, False), ("rolled-back", True), ("incomplete", True),
     ("refused", True)],
)  # fmt: skip
def test_only_what_helped_or_was_not_begun_goes_on(outcome: Optional[Outcome], stops: bool) -> None:
    assert bool(allowance.stops(outcome, "the fault is still there")) == stops


FAULT = finding(CONDITION, verdict="proven")
FLOW = "flow:udp/10.21.17.1/5062/10.21.17.99/5060"
GOOD = change("sysctl:a", "0", fix="tcp-be-liberal", finding=FAULT.id)


@pytest.mark.parametrize(
    ("kept", "each", "fault"),
    [
        (True, {}, {}),
        (False, {"fix": "invalid-drop"}, {}),
        (False, {"after": None}, {}),
        (True, {"resource": FLOW, "fix": "flush-stale-flow", "after": None}, {}),
        (False, {"resource": FLOW, "fix": "udp-redirect", "after": None}, {}),
        (False, {"effects": ("flow:x",)}, {}),
        (False, {"finding": "another"}, {}),
        (False, {}, {"verdict": "active"}),
        (False, {}, {"waived": "until then"}),
    ],
)
def test_only_harmless_fixes_for_proven_faults_are_left(
    kept: bool, each: dict[str, Any], fault: dict[str, Any]
) -> None:

    made = plan(replace(GOOD, **each), findings=(replace(FAULT, **fault),))
    assert unattended.narrowed(ALLOWING, made).changes == (made.changes if kept else ())
    assert unattended.narrowed(policy(ALLOWING.rules), made).changes == ()


class Works:
    """A crew that is told how each apply ended."""

    def __init__(self) -> None:
        self.pipes: tuple[int, ...] = ()
        self.until = float("inf")
        self.begun = 0
        self.result = WorkerResult()

    def start(self, _name: int, _work: Callable[[], str], _limit: float) -> None:
        self.pipes, self.begun = (7,), self.begun + 1

    def hear(self, _pipe: int) -> tuple[int, WorkerResult]:
        self.pipes = ()
        return 0, self.result

    def late(self) -> Iterator[tuple[int, WorkerResult]]:
        return iter(())


class Attended:
    """An applier with such a crew, and a namespace in which a fault is proven."""

    def __init__(self, stop_file: Path, patch: pytest.MonkeyPatch) -> None:
        here = HostSession(HOST, ALLOWING, "/nowhere", {}, {})
        self.crew = Works()
        patch.setattr(applier, "Crew", lambda: self.crew)
        self.applier = Applier(here, TERMS, (), str(stop_file))
        self.stop_file = stop_file

    def proven(self, key: str = "host") -> list[PlacedApply]:
        """Return what is said when a scan of a namespace has proven the fault."""
        seen = Sighting(CONDITION, "s", "proven", "high", "bad", "t")
        place = WatchPlace(key, "", "", "")
        inside = Namespace(1, 4, ("/proc/self/ns/net",))
        self.track = Track(1, inside, place, pulse.NONE, (seen,), 0.0, "")
        return list(self.applier.consider(self.track))

    def ends(
        self, outcome: Optional[Outcome], reason: str = "", *, once: bool = False
    ) -> PlacedApply:
        """Return what is said when the apply that is at work ends."""
        end = UnattendedEnd(outcome, reason, "t1" if outcome else "", ("tcp-be-liberal",), once)
        self.crew.result = WorkerResult(codec.dumps(end))
        (said,) = self.applier.hear(7)
        return said


@pytest.fixture
def attended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attended:
    tmp_path.chmod(0o700)
    return Attended(Path(baseline.stop_file(str(tmp_path))), monkeypatch)


def test_one_at_a_time_and_each_refusal_is_said_once(attended: Attended) -> None:
    assert attended.proven("a") == attended.proven("b") == []
    assert attended.crew.begun == 1
    said = attended.ends("applied")
    assert (said.place.key, said.transaction, said.stopped) == ("a", "t1", False)
    assert attended.proven("b") == []
    attended.ends("applied")
    assert "t1" in attended.track.cause
    (refused,) = attended.proven("c")
    assert "budget" in refused.reason
    assert (refused.outcome, refused.stopped) == (None, False)
    assert attended.proven("c") == []
    assert attended.crew.begun == 2
    attended.applier.forget("c")
    assert len(attended.proven("c")) == 1


@pytest.mark.parametrize("once", [False, True])
def test_what_is_done_once_keeps_nothing_away_so_the_next_is_another(
    attended: Attended, once: bool
) -> None:
    attended.proven()
    assert attended.ends("applied", once=once).once == once
    (said,) = attended.proven()
    assert (said.stopped, attended.stop_file.exists()) == (not once, not once)
    assert ("budget" in said.reason) == once


def test_a_lock_that_somebody_holds_uses_up_no_budget(attended: Attended) -> None:
    for number in range(5):
        attended.proven()
        attended.crew.result = WorkerResult(codec.dumps(UnattendedEnd(reason="held")))
        assert len(list(attended.applier.hear(7))) == (number == 0)
    assert attended.crew.begun == 5


@pytest.mark.parametrize("outcome", ["rolled-back", "incomplete"])
def test_what_did_not_help_stops_all_until_a_person_says_so(
    attended: Attended, outcome: Outcome
) -> None:
    attended.proven("a")
    assert attended.ends(outcome, "the fault is still there").stopped
    assert "still there" in attended.stop_file.read_text()
    (said,) = attended.proven("b")
    assert said.stopped
    assert attended.crew.begun == 1
    attended.stop_file.unlink()
    assert attended.proven("a") == []
    assert attended.crew.begun == 2


def test_an_apply_without_a_result_stops_all(attended: Attended) -> None:
    attended.proven()
    attended.crew.result = WorkerResult(failure="took longer than 60 s")
    (said,) = attended.applier.hear(7)
    assert (said.outcome, said.stopped) == (None, True)
    assert "longer" in attended.stop_file.read_text()


def test_where_no_file_can_be_made_it_is_stopped_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    attended = Attended(tmp_path / "file" / "stop", monkeypatch)
    attended.proven()
    assert attended.ends("rolled-back").stopped
    assert attended.proven()[0].stopped


def test_any_file_of_that_name_stops(attended: Attended) -> None:
    attended.stop_file.parent.mkdir()
    attended.stop_file.symlink_to("/nowhere")
    (said,) = attended.proven()
    assert said.stopped
    assert attended.crew.begun == 0


def test_without_the_option_nothing_is_applied(
    attended: Attended, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = HostSession(HOST, ALLOWING, "/nowhere", {}, {})
    attended.applier = Applier(here, None, (), str(attended.stop_file))
    assert attended.proven() == []
    assert attended.crew.begun == 0
    assert attended.applier.ends is None
