"""What a watch says between two scans: as values, without a kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builder import finding, scan

from remedies.model import Finding, Unknown
from remedies.watch import baseline, events, pulse, watcher
from remedies.watch.baseline import Baseline, WatchedNamespace, WatchPlace
from remedies.watch.events import Seen, WatchEvent
from remedies.watch.pulse import Pulse

WHY = "the ruleset changed"


def after(*findings: Finding, before: Seen = (), **more: Any) -> tuple[Seen, list[WatchEvent]]:
    seen, happened = events.compare(before, scan(*findings, **more), WHY)
    return seen, list(happened)


def told(happened: list[WatchEvent]) -> list[tuple[str, str, str, str | None, str | None]]:
    return [(e.event, e.condition, e.subject, e.before, e.verdict) for e in happened]


def test_what_is_found_first_appears_once() -> None:
    seen, happened = after(finding("a"), finding("b", verdict="proven"))
    assert told(happened) == [
        ("appeared", "a", "s", None, "exposed"),
        ("appeared", "b", "s", None, "proven"),
    ]
    assert {event.reason for event in happened} == {WHY}
    assert after(finding("a"), finding("b", verdict="proven"), before=seen)[1] == []


@pytest.mark.parametrize(
    "now",
    [
        {"verdict": "active"},
        {"verdict": "mitigated", "mitigated_by": "remedy nft:inet/remedy_invalid_drop"},
        {"waived": "until 2027"},
    ],
)
def test_another_state_is_a_change_and_keeps_when_it_began(now: dict[str, Any]) -> None:
    seen, _ = after(finding())
    later, (event,) = after(finding(**now), before=seen, time="2026-01-02T00:00:00Z")
    assert event.event == "changed"
    assert event.before == "exposed"
    assert event.since == later[0].since == seen[0].since
    assert event.time == "2026-01-02T00:00:00Z"
    assert after(finding(**now), before=later)[1] == []


def test_other_figures_in_a_message_are_no_change() -> None:
    seen, _ = after(finding(message="12 packets"))
    later, happened = after(finding(message="13 packets"), before=seen)
    assert happened == []
    assert later[0].message == "13 packets"


def test_what_is_not_found_any_more_clears_with_the_reason() -> None:
    seen, _ = after(finding("a"), finding("a", "other"))
    left, (event,) = after(finding("a"), before=seen)
    assert (event.event, event.subject, event.before, event.verdict) == (
        "cleared", "other", "exposed", None,
    )  # fmt: skip
    assert event.reason == WHY
    assert [each.subject for each in left] == ["s"]


def test_what_cannot_be_judged_clears_nothing() -> None:
    """Unknown is not fine: neither is it gone when the kernel does not answer once."""
    seen, _ = after(finding("a", verdict="proven"))
    unknown = (Unknown("a", "not permitted"), Unknown("b", "not permitted"))
    vague, happened = after(before=seen, unknown=unknown)
    assert told(happened) == [
        ("changed", "a", "s", "proven", "unknown"),
        ("appeared", "b", "", None, "unknown"),
    ]
    _, happened = after(finding("a", verdict="proven"), before=vague)
    assert told(happened) == [
        ("changed", "a", "s", "unknown", "proven"),
        ("cleared", "b", "", "unknown", None),
    ]


def test_what_was_judged_by_a_part_is_judged() -> None:
    seen, _ = after(finding("a"))
    partly = (Unknown("a", "one rule", partly=True),)
    assert told(after(before=seen, unknown=partly)[1]) == [
        ("cleared", "a", "s", "exposed", None)
    ]  # fmt: skip


def test_a_condition_with_findings_is_not_unknown_beside_them() -> None:
    seen, _ = after(finding("a"), unknown=(Unknown("a", "another part"),))
    assert [(each.subject, each.verdict) for each in seen] == [("s", "exposed")]


def test_a_namespace_that_ends_clears_what_it_had() -> None:
    seen, _ = after(finding("a"), finding("b"))
    happened = events.ended(seen, "2026-01-02T00:00:00Z", "the namespace has ended")
    assert [(e.event, e.condition, e.reason) for e in happened] == [
        ("cleared", "a", "the namespace has ended"),
        ("cleared", "b", "the namespace has ended"),
    ]


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (Pulse({"invalid": 3}), Pulse({"invalid": 3}), []),
        (Pulse({"invalid": 3}), Pulse({"invalid": 5}), ["invalid +2"]),
        (Pulse({"invalid": 3}), Pulse({"invalid": 1}), []),  # begun anew: nothing is known of it
        (Pulse(), Pulse({"invalid": 7}), []),  # conntrack was loaded just now
        (Pulse(states={"r": "1"}), Pulse(states={"r": "2"}), ["r: 1 -> 2"]),
        (Pulse(states={"r": "1"}), Pulse(), ["r: 1 -> none"]),
        (Pulse(), Pulse(states={"r": "x" * 90}), ["r changed"]),
        (Pulse(entries=5), Pulse(entries=6), []),
    ],
)
def test_what_moved_between_two_pulses(before: Pulse, now: Pulse, words: list[str]) -> None:
    said = [*pulse.changed(before, now), *filter(None, [pulse.counted(before, now)])]
    assert [word for word in words if not any(word in line for line in said)] == []
    assert len(said) == len(words)


def test_many_counters_are_said_in_few_words() -> None:
    line = pulse.counted(Pulse(dict.fromkeys("abcde", 0)), Pulse(dict.fromkeys("abcde", 1)))
    assert "and 2 more" in line


@pytest.mark.parametrize(
    ("interval", "slowest", "expected"), [(10, 1.5, 8.5), (10, 5.0, 5.0), (10, 30, 5), (1, 2, 0.5)]
)
def test_a_look_leaves_time_for_its_scan(interval: float, slowest: float, expected: float) -> None:
    assert watcher.pause(interval, slowest) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((), 8),
        ((finding("a"), finding("b", verdict="unknown")), 8),
        ((finding("a"), finding("b", verdict="active")), 4),
        ((finding("b", verdict="proven"),), 4),
        ((finding("b", verdict="active", waived="x"),), 8),
    ],
)
def test_a_fault_that_is_seen_is_listened_to_in_shorter_windows(
    found: tuple[Finding, ...], expected: float
) -> None:
    """So that one without anything fits into the interval after its end."""
    seen, _ = after(*found)
    assert watcher.listening(seen, 8) == expected
    assert watcher.listening(seen, 90) == watcher.LONGEST


PLACE = WatchPlace("boot-5", "web", "web", "")
SAVED = Baseline(
    "2026-01-01T00:00:00Z",
    "boot",
    "digest",
    (WatchedNamespace(PLACE, Pulse({"invalid": 3}, {"r": "1"}, 5, 10), after(finding())[0]),),
)


def test_a_baseline_is_kept_and_is_nobody_elses_to_write(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert baseline.load(str(state), "all", "boot") == (baseline.NONE, "")
    baseline.save(str(state), "all", SAVED)
    assert baseline.load(str(state), "all", "boot") == (SAVED, "")
    (file,) = (state / "watch").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o666)
    assert baseline.load(str(state), "all", "boot") == (baseline.NONE, "")


def test_after_a_restart_of_the_machine_no_counter_is_compared(tmp_path: Path) -> None:
    baseline.save(str(tmp_path / "state"), "all", SAVED)
    (kept,) = baseline.load(str(tmp_path / "state"), "all", "another")[0].namespaces
    assert kept.pulse == Pulse()
    assert kept.seen == SAVED.namespaces[0].seen


@pytest.mark.parametrize("content", ["", "{", "[]", '{"time": 5}', "\udcff"])
def test_a_damaged_baseline_is_no_baseline_and_is_said(content: str, tmp_path: Path) -> None:
    baseline.save(str(tmp_path / "state"), "all", SAVED)
    file = tmp_path / "state/watch/all.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    found, why = baseline.load(str(tmp_path / "state"), "all", "boot")
    assert found == baseline.NONE
    assert "all.json" in why or "utf-8" in why
