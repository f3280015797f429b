"""What a watch applies with nobody there: asked for at each proven fault, one at a time.

Each is a process that does an ordinary apply (:mod:`remedies.operations.unattended`). A file stops
all of them: it is written with the reason, and a person removes it.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from typing import Optional

from remedies import codec, private_file
from remedies.facts.gather import now
from remedies.model import Unattended
from remedies.namespaces.workers import Crew, WorkerResult
from remedies.operations import unattended
from remedies.operations.session import HostSession
from remedies.operations.unattended import UnattendedEnd
from remedies.outcomes import Outcome
from remedies.planning.unattended import allowed
from remedies.values import dataclass
from remedies.watch import allowance
from remedies.watch.allowance import Done, UnattendedApply
from remedies.watch.baseline import WatchPlace
from remedies.watch.events import Sighting
from remedies.watch.track import Track

_PATIENCE = 60.0
"""Seconds that an apply may take beside what it listens: it waits for no lock."""


@dataclass(frozen=True)
class PlacedApply:
    """What became of a proven fault with nobody there."""

    place: WatchPlace
    time: str
    condition: str
    subject: str
    outcome: Optional[Outcome]
    """None: nothing was written, for the reason that is given."""
    reason: str
    transaction: str
    fixes: tuple[str, ...]
    once: bool
    """Nothing of it is in force, and nothing can be taken back."""
    stopped: bool
    """Nothing is applied any more, until a person says so."""


class Applier:
    """Applies what policy allows, within its budget."""

    def __init__(
        self, here: HostSession, terms: Optional[Unattended], done: Done, stop_file: str
    ) -> None:
        """Go on from what an earlier watch has applied. ``here``: its window is listened for.

        Without ``terms`` nothing is ever applied.
        """
        self._here = here
        self._terms = terms
        self._stop_file = stop_file
        self._unwritten = ""
        self._crew = Crew()
        self._working: Optional[tuple[Track, Sighting]] = None
        self._told: dict[tuple[str, str], str] = {}
        self.done = done
        self.ends: Optional[dict[str, int]] = None if terms is None else {}
        """How many came to each outcome since the watch began; None: nothing is applied."""

    @property
    def pipes(self) -> tuple[int, ...]:
        """Return what to poll for ends."""
        return self._crew.pipes

    @property
    def until(self) -> float:
        """Return the monotonic time at which the one at work is late; infinite for none."""
        return self._crew.until

    def stopped(self) -> str:
        """Return why nothing is applied until a person says so; empty: it is not stopped."""
        if os.path.lexists(self._stop_file):
            content = private_file.read(self._stop_file) or b""
            return content.decode("utf-8", "replace").strip() or f"there is {self._stop_file}"
        return self._unwritten

    def consider(self, track: Track) -> Iterator[PlacedApply]:
        """Begin an apply for a proven fault of a namespace that was just scanned, or say why not.

        A reason is said once, until it is another one.
        """
        terms = self._terms
        for fault in track.seen:
            if terms is None or not allowed(self._here.policy, fault):
                continue
            if self._working is not None:
                return  # it is asked again after the next scan
            at = time.time()
            self.done = allowance.remembered(self.done, at)
            why = self.stopped()
            answer = allowance.ask(terms, self.done, track.place.key, fault.condition, at)
            if not why and answer.go:
                self._working = track, fault
                limit = 2 * self._here.window + _PATIENCE
                self._crew.start(0, unattended.work(self._here, track.namespace), limit)
                return
            if not why and answer.stop:
                self._stop(answer.why)
            yield from self._declined(track, fault, why or answer.why)

    def hear(self, descriptor: int) -> Iterator[PlacedApply]:
        """Take in what a pipe that is readable has."""
        heard = self._crew.hear(descriptor)
        if heard is not None and self._working is not None:
            yield from self._ended(*self._working, heard[1])

    def late(self) -> Iterator[PlacedApply]:
        """End the one that takes too long; its guard undoes what it wrote."""
        for _, result in self._crew.late():
            if self._working is not None:
                yield from self._ended(*self._working, result)

    def forget(self, key: str) -> None:
        """Forget what was said about a namespace that has ended."""
        for each in [each for each in self._told if each[0] == key]:
            del self._told[each]

    def finish(self) -> Iterator[PlacedApply]:
        """Wait for the one at work: to end it half way would only have it undone."""
        while self.pipes:
            poll = select.poll()
            for descriptor in self.pipes:
                poll.register(descriptor, select.POLLIN)
            for descriptor, _ in poll.poll(max(0.0, self.until - time.monotonic()) * 1000):
                yield from self.hear(descriptor)
            yield from self.late()

    def _ended(self, track: Track, fault: Sighting, result: WorkerResult) -> Iterator[PlacedApply]:
        self._working = None
        if result.failure:
            self._stop(f"an apply had no result: {result.failure}")
            yield self._said(track, fault, UnattendedEnd(reason=result.failure))
            return
        plain = codec.loads(result.text, "apply")
        end = codec.decode(UnattendedEnd, plain, "apply", passing=True)
        if end.outcome is None:
            yield from self._declined(track, fault, end.reason)
            return
        if self.ends is not None:
            self.ends[end.outcome] = self.ends.get(end.outcome, 0) + 1
        done = UnattendedApply(
            time.time(), track.place.key, fault.condition, end.outcome, end.transaction, end.once
        )
        self.done = (*self.done, done)
        why = allowance.stops(end.outcome, end.reason)
        if why:
            self._stop(why)
        track.cause = f"transaction {end.transaction} was {end.outcome}"
        yield self._said(track, fault, end)

    def _declined(self, track: Track, fault: Sighting, why: str) -> Iterator[PlacedApply]:
        told = track.place.key, fault.condition
        if self._told.get(told) != why:
            self._told[told] = why
            yield self._said(track, fault, UnattendedEnd(reason=why))

    def _said(self, track: Track, fault: Sighting, end: UnattendedEnd) -> PlacedApply:
        return PlacedApply(
            track.place, now(), fault.condition, fault.subject, end.outcome, end.reason,
            end.transaction, end.fixes, end.once, bool(self.stopped()),
        )  # fmt: skip

    def _stop(self, why: str) -> None:
        """Apply nothing until a person has removed the file; where none can be made, never.

        Who removes it has looked: then nothing of before counts.
        """
        self.done = ()
        text = f"{now()} {why}"
        private_file.write(self._stop_file, text + "\n")
        self._unwritten = "" if os.path.lexists(self._stop_file) else text
