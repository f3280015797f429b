"""What has changed between two scans of one namespace, as events. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Optional

from remedies.model import Scan, Severity, Verdict
from remedies.values import dataclass, replace

EventKind = Literal["appeared", "changed", "cleared"]


@dataclass(frozen=True)
class Sighting:
    """A finding as it is remembered from one scan to the next."""

    condition: str
    subject: str
    """Empty: the condition as a whole could not be judged."""
    verdict: Verdict
    severity: Severity
    message: str
    since: str
    """RFC 3339, UTC: when it was first found."""
    waived: Optional[str] = None
    mitigated_by: Optional[str] = None

    @property
    def open(self) -> bool:
        """Tell whether it is a fault that somebody has to do something about."""
        return not self.waived and self.verdict not in ("mitigated", "unknown")


@dataclass(frozen=True)
class WatchEvent:
    """One sighting that appeared, changed or cleared."""

    time: str
    event: EventKind
    condition: str
    subject: str
    verdict: Optional[Verdict]
    """None: it cleared."""
    before: Optional[Verdict]
    """None: it appeared."""
    severity: Severity
    message: str
    reason: str
    """What moved, so that the namespace was scanned again; or why it could not be judged."""
    since: str


Seen = tuple[Sighting, ...]


def compare(before: Seen, scan: Scan, cause: str) -> tuple[Seen, tuple[WatchEvent, ...]]:
    """Return what is known after a scan, and the events that lead there from what was known.

    ``cause`` is why the scan was made. A condition that could not be judged clears nothing: what
    was known of it becomes ``unknown``.
    """
    old = {(each.condition, each.subject): each for each in before}
    new = {(each.condition, each.subject): each for each in _seen(scan, before)}
    events: list[WatchEvent] = []
    for key, now in new.items():
        earlier = old.get(key)
        if earlier is None:
            events.append(_event("appeared", scan.time, now, None, cause))
            continue
        new[key] = replace(now, since=earlier.since)
        if _state(now) != _state(earlier):
            events.append(_event("changed", scan.time, new[key], earlier.verdict, cause))
    for key, earlier in old.items():
        if key not in new:
            events.append(_cleared(earlier, scan.time, cause))
    return tuple(new.values()), tuple(events)


def ended(before: Seen, time: str, reason: str) -> tuple[WatchEvent, ...]:
    """Return the events of a namespace that is not watched any longer, and why."""
    return tuple(_cleared(each, time, reason) for each in before)


def _seen(scan: Scan, before: Seen) -> Iterator[Sighting]:
    """Yield what a scan found, and what it could not judge of what was known before."""
    for finding in scan.findings:
        yield Sighting(
            condition=finding.condition,
            subject=finding.subject,
            verdict=finding.verdict,
            severity=finding.severity,
            message=finding.message,
            since=scan.time,
            waived=finding.waived,
            mitigated_by=finding.mitigated_by,
        )
    found = {finding.condition for finding in scan.findings}
    for unknown in scan.unknown:
        if unknown.partly or unknown.condition in found:
            continue
        found.add(unknown.condition)
        known = [each for each in before if each.condition == unknown.condition]
        for each in known:
            yield replace(each, verdict="unknown", message=unknown.reason, mitigated_by=None)
        if not known:
            yield Sighting(unknown.condition, "", "unknown", "low", unknown.reason, scan.time)


def _state(each: Sighting) -> tuple[object, ...]:
    """Return what of a sighting is a change if it differs: not the figures in its message."""
    return each.verdict, each.waived, each.mitigated_by


def _event(
    event: EventKind, time: str, now: Sighting, before: Optional[Verdict], cause: str
) -> WatchEvent:
    return WatchEvent(
        time=time,
        event=event,
        condition=now.condition,
        subject=now.subject,
        verdict=now.verdict,
        before=before,
        severity=now.severity,
        message=now.message,
        reason=cause,
        since=now.since,
    )


def _cleared(earlier: Sighting, time: str, reason: str) -> WatchEvent:
    return WatchEvent(
        time=time,
        event="cleared",
        condition=earlier.condition,
        subject=earlier.subject,
        verdict=None,
        before=earlier.verdict,
        severity=earlier.severity,
        message=earlier.message,
        reason=reason,
        since=earlier.since,
    )
