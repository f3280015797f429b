"""The watch itself: takes every namespace's pulse, scans what moved, and says what changed.

One process keeps what is known and imports what judges; each scan is a fork of it, which ends with
its answer. Nothing is held open in between that would keep a namespace alive which everybody else
has left: no socket, and no file but sysctls.
"""

from __future__ import annotations

import contextlib
import select
import time
import zlib
from collections.abc import Iterator
from typing import Optional, Union

from remedies import catalogue
from remedies.conditions import conntrack_pressure
from remedies.facts.gather import now
from remedies.model import SEEN, Scan
from remedies.namespaces import containers, find
from remedies.namespaces.find import Namespace
from remedies.namespaces.workers import Crew, WorkerResult
from remedies.operations import scan_all
from remedies.operations.scan_all import PATIENCE
from remedies.operations.session import HostSession
from remedies.planning import engine
from remedies.trace.stop_signal import Ending
from remedies.values import dataclass, replace
from remedies.watch import baseline, events, pulse, visits
from remedies.watch.applier import Applier, PlacedApply
from remedies.watch.baseline import Baseline, WatchedNamespace, WatchPlace
from remedies.watch.events import Seen, Sighting, WatchEvent
from remedies.watch.metrics import WatchNumbers
from remedies.watch.pulse import Pulse
from remedies.watch.service_manager import NOBODY, ServiceManager
from remedies.watch.track import Track

AT_ONCE = 16
"""Scans at a time: each is a process."""
RETRY = 6
"""Intervals after which a namespace is scanned again that could not be judged."""
LISTEN = 6
"""Intervals for which a namespace with a finding is listened to after a counter moved."""
JUDGED = 1.0
"""Seconds that a scan is taken to need beside its window before one was made."""
FORGETS = 0.9
"""How much of the longest scan's time counts after each shorter one."""
LONGEST = 10.0
"""Seconds that one such scan listens, at most."""


@dataclass(frozen=True)
class PlacedEvent:
    """An event, and the namespace it is about."""

    place: WatchPlace
    event: WatchEvent


@dataclass(frozen=True)
class IntervalEnd:
    """An interval is over."""

    first: bool
    """From here on "nothing found" is a statement: all was scanned, and a whole interval passed."""


Told = Union[PlacedEvent, PlacedApply, IntervalEnd]


def pause(interval: float, slowest: float) -> float:
    """Return how long to wait for the next look, so that its scan still ends in the interval.

    ``slowest``: what a scan may take. One as long as half an interval is late. Pure.
    """
    return max(interval / 2, interval - slowest)


def listening(seen: Seen, most: float) -> float:
    """Return how long a namespace is listened to at a time, for ``most`` seconds at most. Pure.

    Half as long while a fault is seen in it: what is heard at the begin of a window makes the fault
    one that is seen now, and only the next window, without anything, clears it.
    """
    failing = any(each.verdict in SEEN and each.open for each in seen)
    return min(most / 2 if failing else most, LONGEST)


def _may_end(each: Sighting) -> bool:
    """Tell whether it is a fault that may be over without a pulse that shows it."""
    return each.verdict in SEEN and each.open and not catalogue.in_pulse(each.condition)


class Watcher:
    """Watches one namespace, or every one of the machine."""

    def __init__(
        self,
        here: HostSession,
        *,
        applier: Applier,
        everywhere: bool,
        interval: float,
        rescan: float,
        known: Baseline = baseline.NONE,
        manager: ServiceManager = NOBODY,
    ) -> None:
        """Take what is known from an earlier watch; look at nothing yet."""
        self._here = here
        self._everywhere = everywhere
        self._interval = interval
        self._slowest = here.window + JUDGED
        self._rescan = rescan
        self._known = {each.place.key: each for each in known.namespaces}
        self._again = (
            ""
            if not known.time
            else "the watch was started again"
            if known.policy == here.policy.digest
            else "the watch was started again, with another policy"
        )
        self._tracks: dict[str, Track] = {}
        self._numbers = 0
        self._crew = Crew()
        pressed = engine.rule_for(here.policy, conntrack_pressure.CONDITION).params
        self._visits = visits.Visits(here.host.boot_id, conntrack_pressure.threshold(pressed))
        self._heard: set[str] = set()
        self._begun = False
        self._manager = manager
        self._applier = applier
        self._counters = dict.fromkeys(sorted(pulse.COUNTERS), 0)
        self._happened: dict[str, int] = {}
        self._scans, self._failed, self._scan_seconds = 0, 0, 0.0
        self._last_success: Optional[float] = None
        self.ready = False
        """Everything was scanned, and a whole interval has passed."""

    @property
    def scope(self) -> str:
        """Return the name under which the baseline is kept."""
        return "all" if self._everywhere else self._here.host.netns

    @property
    def namespaces(self) -> tuple[WatchedNamespace, ...]:
        """Return what is known of each namespace that is watched."""
        return tuple(
            WatchedNamespace(track.place, track.pulse, track.seen)
            for track in self._tracks.values()
        )

    def tally(self) -> dict[str, int]:
        """Return how many findings are ``failing`` now, ``exposed`` and ``unknown``."""
        seen = [each for track in self._tracks.values() for each in track.seen]
        return {
            "failing": sum(each.verdict in SEEN and each.open for each in seen),
            "exposed": sum(each.verdict == "exposed" and each.open for each in seen),
            "unknown": sum(each.verdict == "unknown" for each in seen),
        }

    def numbers(self) -> WatchNumbers:
        """Return what is counted, for :mod:`remedies.watch.metrics`."""
        held = [each for track in self._tracks.values() for each in track.in_force]
        hits: dict[str, int] = {}
        for each in held:
            count = sum(n for name, n in each.counters.items() if name.startswith("packets"))
            hits[each.fix] = hits.get(each.fix, 0) + count
        return WatchNumbers(
            conditions=engine.watched(self._here.policy),
            namespaces=self.namespaces,
            own=self._here.host.netns,
            ready=self.ready,
            last_success=self._last_success,
            scans=self._scans,
            failed=self._failed,
            scan_seconds=self._scan_seconds,
            counters=self._counters,
            events=self._happened,
            unattended=self._applier.ends,
            stopped=bool(self._applier.stopped()),
            fixes={
                fix: all(each.state == "ours" for each in held if each.fix == fix)
                for fix in {each.fix for each in held}
            },
            hits=hits,
        )

    def saved(self) -> Baseline:
        """Return what another watch has to know to go on from here."""
        here = self._here
        unmet = tuple(self._known.values())
        return Baseline(
            now(),
            here.host.boot_id,
            here.policy.digest,
            (*self.namespaces, *unmet),
            self._applier.done,
        )

    def watch(self, ending: Ending) -> Iterator[Told]:
        """Yield what happens until ``ending`` has a signal."""
        scan_all.prepare(self._here)
        begun = tick = time.monotonic()
        patience = (self._manager.watchdog or float("inf")) / 3
        with self._crew, contextlib.closing(self._visits):
            while ending.signal is None:
                if time.monotonic() >= tick:
                    yield from self._tick()
                    if tick == begun:
                        self._manager.tell("READY=1", "STATUS=the first interval is under way")
                    if self.ready or self._whole(begun):
                        first, self.ready = not self.ready, True
                        yield IntervalEnd(first)
                    tick = max(tick + pause(self._interval, self._slowest), time.monotonic())
                self._start()
                if self._manager.watchdog:
                    self._manager.tell("WATCHDOG=1")
                yield from self._hear(ending, min(tick, time.monotonic() + patience))
            yield from self._applier.finish()

    def _whole(self, begun: float) -> bool:
        """Tell whether an interval has passed and all was scanned that was there at its begin."""
        first = [track for track in self._tracks.values() if track.awaited]
        return time.monotonic() >= begun + self._interval and all(t.scanned for t in first)

    def _tick(self) -> Iterator[PlacedEvent]:
        """Take every pulse; note what is to be scanned, and tell of namespaces that have ended."""
        if self._tracks and all(track.settled for track in self._tracks.values()):
            self._last_success = time.time()
        present = self._pulses()
        for key in [key for key in self._tracks if key not in present]:
            track = self._tracks.pop(key)
            self._crew.end(track.number)
            self._applier.forget(key)
            yield from self._ended(track.place, track.seen, "the namespace has ended")
        for key in [key for key in self._known if key not in present]:
            left = self._known.pop(key)
            yield from self._ended(left.place, left.seen, "the namespace ended while no watch ran")
        self._meet({key: found for key, found in present.items() if key not in self._tracks})
        for key, (namespace, beat) in present.items():
            track = self._tracks[key]
            causes = list(pulse.changed(track.pulse, beat))
            moved = pulse.counted(track.pulse, beat)
            if moved:
                for name, step in pulse.steps(track.pulse, beat).items():
                    self._counters[name] += step
                track.heard = moved
                track.listen_until = time.monotonic() + LISTEN * self._interval
                if not (track.scanning and track.listens):
                    causes.append(moved)
            if time.monotonic() >= track.due:
                causes.append("a regular scan")
            quiet = not causes and time.monotonic() >= track.listen_until
            if quiet and any(map(_may_end, track.seen)):
                causes.append("a fault was seen before, and no counter moved since")
            track.pulse, track.namespace = beat, namespace
            track.cause = "; ".join(dict.fromkeys(filter(None, (track.cause, *causes))))

    def _pulses(self) -> visits.Beats:
        found, unread = find.find() if self._everywhere else ((find.own(),), ())
        for reason in unread:
            self._notify(reason)
        return self._visits.pulses(found, self._pulse_before)

    def _pulse_before(self, key: str) -> Pulse:
        return self._tracks[key].pulse if key in self._tracks else pulse.NONE

    def _meet(self, new: dict[str, tuple[Namespace, Pulse]]) -> None:
        """Begin to watch namespaces, with what is known of them from an earlier watch."""
        unnamed: list[str] = []
        held = any(namespace.containers for namespace, _ in new.values())
        names = containers.names(unnamed) if held else {}
        for reason in unnamed:
            self._notify(reason)
        for key, (namespace, beat) in new.items():
            container = ", ".join(names.get(each, each) for each in namespace.containers)
            place = WatchPlace(
                key, "" if namespace.own else namespace.spec, namespace.name, container
            )
            before = self._known.pop(key, None)
            begun = "the watch was started" if not self.ready else "the namespace is new"
            self._numbers += 1
            self._tracks[key] = Track(
                number=self._numbers,
                namespace=namespace,
                place=place,
                pulse=before.pulse if before and before.pulse.counters else beat,
                seen=before.seen if before else (),
                due=self._next(key),
                cause=(before and self._again) or begun,
                awaited=not self._begun,
            )
        self._begun = True

    def _next(self, key: str) -> float:
        """Return when a namespace is scanned in any case: not all of them at one time."""
        share = zlib.crc32(key.encode()) % 100 / 100
        return time.monotonic() + self._rescan * (0.5 + share / 2)

    def _start(self) -> None:
        """Begin the scans that have a cause, as many as may run at a time."""
        for track in self._tracks.values():
            if track.cause and track.listens:
                self._crew.end(track.number)
                track.scanning, track.listens = "", False
            if track.scanning or len(self._crew.names) >= AT_ONCE:
                continue
            window = self._here.window
            listen = track.scanned and time.monotonic() < track.listen_until
            if track.cause:
                track.scanning, track.cause = track.cause, ""
            elif listen and any(each.open for each in track.seen):
                window = max(window, listening(track.seen, pause(self._interval, self._slowest)))
                track.scanning, track.listens = f"{track.heard}, and packets were heard", True
            else:
                continue
            here = replace(self._here, window=window)
            work = scan_all.work(here, track.namespace, of_force=True)
            track.begun = time.monotonic()
            self._crew.start(track.number, work, window + PATIENCE)

    def _hear(self, ending: Ending, until: float) -> Iterator[Union[PlacedEvent, PlacedApply]]:
        """Wait for results, a signal or the next tick."""
        poll = select.poll()
        pipes = self._crew.pipes
        applies = self._applier.pipes
        for descriptor in (ending.fileno(), *pipes, *applies):
            poll.register(descriptor, select.POLLIN)
        left = max(0.0, min(until, self._applier.until, self._crew.until) - time.monotonic())
        for descriptor, _ in poll.poll(left * 1000):
            if descriptor in applies:
                yield from self._applier.hear(descriptor)
            if descriptor in pipes:
                heard = self._crew.hear(descriptor)
                if heard is not None:
                    yield from self._judged(*heard)
        for number, result in self._crew.late():
            yield from self._judged(number, result)
        yield from self._applier.late()

    def _judged(
        self, number: int, result: WorkerResult
    ) -> Iterator[Union[PlacedEvent, PlacedApply]]:
        """Take in what became of a scan."""
        track = next((t for t in self._tracks.values() if t.number == number), None)
        if track is None:
            return
        cause, track.scanning, track.scanned = track.scanning, "", True
        took = time.monotonic() - track.begun
        if not track.listens:
            self._slowest = max(took, FORGETS * self._slowest)
        track.listens, track.failed = False, bool(result.failure)
        self._scans += 1
        self._failed += track.failed
        self._scan_seconds += took
        track.due = self._next(track.place.key)
        child = scan_all.answer(self._here, track.namespace, result)
        if child.scan is None:  # it has ended: the next tick says so
            return
        for line in child.said:
            self._notify(line)
        if not result.failure and child.scan.host.netns != track.place.key:
            return  # another one has taken its name
        track.in_force = child.in_force
        yield from self._take(track, child.scan, cause)
        yield from self._applier.consider(track)

    def _take(self, track: Track, scan: Scan, cause: str) -> Iterator[PlacedEvent]:
        track.seen, happened = events.compare(track.seen, scan, cause)
        if any(each.verdict == "unknown" for each in track.seen):
            track.due = min(track.due, time.monotonic() + RETRY * self._interval)
        yield from self._told(track.place, happened)

    def _ended(self, place: WatchPlace, seen: Seen, reason: str) -> Iterator[PlacedEvent]:
        yield from self._told(place, events.ended(seen, now(), reason))

    def _told(self, place: WatchPlace, happened: tuple[WatchEvent, ...]) -> Iterator[PlacedEvent]:
        for event in happened:
            self._happened[event.event] = self._happened.get(event.event, 0) + 1
            yield PlacedEvent(place, event)

    def _notify(self, line: str) -> None:
        """Warn of something once."""
        if line not in self._heard and len(self._heard) < 1000:
            self._heard.add(line)
            self._here.notify(line)
