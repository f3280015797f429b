"""The steps a scenario is told in: each runs something real and checks what came of it.

Commands are the real command line, run as child processes against the world's host.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from remedies.errors import RemedyError
from remedies.lab.registry import GRACE
from remedies.lab.ruleset import Dump, difference, dump
from remedies.lab.world import (
    COMMAND_DEADLINE,
    TrafficOutcome,
    World,
    child_environment,
    overdue,
)

PACE = 0.05
"""Seconds between two attempts while a scan watches."""
WINDOW = ("--window", "500ms")
"""How long the commands watch: traffic fails several times in it, and nobody waits long."""


class Tell(Protocol):
    """What a story is told through."""

    def text(self, text: str) -> None:
        """Print a paragraph."""

    def heading(self, text: str) -> None:
        """Print the title of a step."""

    def command(self, argv: Sequence[str]) -> None:
        """Print a command as one would type it."""

    def output(self, text: str) -> None:
        """Print what a command said."""

    def verdict(self, ok: bool, text: str) -> None:
        """Print whether a step came out as expected."""


class StoryFailed(RemedyError):
    """A step came out otherwise than the story says."""


@dataclass(frozen=True)
class StoryStep:
    """One step as it was."""

    title: str
    ok: bool
    expected: str
    seen: str
    argv: tuple[str, ...] = ()
    """The command, without the interpreter; empty for traffic and for comparisons."""
    output: str = ""


@dataclass
class Story:
    """Runs the steps against one world; the first that differs ends it with StoryFailed."""

    world: World
    traffic: Callable[[World], TrafficOutcome]
    tell: Tell
    condition: str
    verdict: str
    """What a scan has to say of the condition while the traffic dies."""
    steps: list[StoryStep] = field(default_factory=list)

    def dies(self, title: str) -> None:
        """Run the traffic once; it has to die."""
        self._attempt(title, alive=False)

    def lives(self, title: str) -> None:
        """Run the traffic once; it has to live."""
        self._attempt(title, alive=True)

    def _attempt(self, title: str, *, alive: bool) -> None:
        self._begin(title)
        with self.world.wanted(alive=alive):
            outcome = self.traffic(self.world)
        self.tell.output(_sentence(outcome))
        wanted = "alive" if alive else "dead"
        seen = "alive" if outcome.alive else "dead"
        self._end(StoryStep(title, seen == wanted, wanted, seen, output=_sentence(outcome)))

    def command(
        self,
        title: str,
        *arguments: str,
        code: int = 0,
        says: Sequence[str] = (),
        during: bool = False,
    ) -> None:
        """Run ``remedy ARGUMENTS``; it has to exit with ``code`` and to say each of ``says``.

        A run of white space in what it prints counts as one blank. ``during``: the traffic goes
        on beside it.
        """
        self._run(title, arguments, code, says, during=during)

    def scan(self, title: str, *, verdict: str = "", code: int = 2) -> None:
        """Scan while the traffic runs; the condition has to come out with this verdict."""
        arguments = ("scan",) if code else ("scan", "--show-all")
        said = f"{verdict or self.verdict} {self.condition}"
        self._run(title, arguments, code, (said,), during=True)

    def fault(self, traffic: str, cause: str) -> Dump:
        """Let the traffic die and a scan say why, each with its title, and nothing has changed.

        Return how the host is, for a later comparison.
        """
        before = self.dump()
        self.dies(traffic)
        self.scan(cause)
        self.unchanged("Looking changed nothing", before)
        return before

    def dump(self) -> Dump:
        """Return the rules and values of the world's host, for a later comparison."""
        return dump(self.world)

    def unchanged(self, title: str, before: Dump) -> None:
        """Compare rules and values with ``before``; they have to be equal."""
        self._begin(title)
        differs = difference(before, self.dump())
        rules = sorted(source for source in before if not source.startswith("net."))
        seen = "different" if differs else "equal"
        seen += f": {', '.join(rules)} and {len(before) - len(rules)} sysctls"
        self._end(StoryStep(title, not differs, "nothing different", seen, output=differs))

    def heals(
        self,
        fix: str,
        *,
        before: Dump,
        again: str,
        back: str,
        policy: Sequence[str] = (),
        now: str = "mitigated",
    ) -> None:
        """Apply while a proven fault happens, see the traffic live, and undo it.

        ``again`` and ``back`` are the titles of the traffic with the fix and without it; ``before``
        is how the host was; ``policy``: options before the verb, where default only advises.
        ``now``: the verdict that is said afterwards, nothing where either may be.
        """
        self.command(
            "The fix, while traffic goes on",
            *(*policy, "apply", "--yes"),
            says=(fix, f"{self.condition}: was proven, now {now}".strip()),
            during=True,
        )
        self.lives(again)
        fixed = self.dump()
        self.command(
            "Once more: nothing is left to do", *policy, "apply", "--yes", says=("Nothing to do",)
        )
        self.unchanged("So nothing has changed", fixed)
        self.command("Undo it", "rollback", "--yes")
        self.dies(back)
        self.unchanged("The host is what it was", before)

    def person(self, title: str, act: Callable[[], object]) -> None:
        """Do what only a person can decide."""
        self._begin(title)
        act()
        self._end(StoryStep(title, True, "done", "done"))

    def _run(
        self, title: str, arguments: Sequence[str], code: int, says: Sequence[str], *, during: bool
    ) -> None:
        self._begin(title)
        watches = () if "rollback" in arguments else WINDOW
        argv = ["remedy", *self.world.remedy, *arguments, *watches]
        self.tell.command(argv)
        seen_code, output = self._output(argv[1:], during)
        self.tell.output(output)
        words = " ".join(output.split())
        said = [f"{'says' if word in words else 'does not say'} {word!r}" for word in says]
        seen = ", ".join([f"exit {seen_code}", *said])
        expected = ", ".join([f"exit {code}", *(f"says {word!r}" for word in says)])
        self._end(StoryStep(title, seen == expected, expected, seen, tuple(argv), output))

    def _output(self, words: Sequence[str], during: bool) -> tuple[int, str]:
        """Run a command line, with the traffic going on beside it if ``during``."""
        process = started(words, self.world.folder)
        until = time.monotonic() + COMMAND_DEADLINE
        with process:
            try:
                while True:
                    if during:
                        self.traffic(self.world)
                    left = max(0.0, until - time.monotonic())
                    try:
                        output, _ = process.communicate(timeout=min(PACE, left) if during else left)
                        return process.returncode, output
                    except subprocess.TimeoutExpired as error:
                        if left <= PACE:
                            raise overdue(["remedy", *words]) from error
            except BaseException:
                process.terminate()  # it undoes what it has begun
                try:
                    process.wait(GRACE)
                except subprocess.TimeoutExpired:
                    process.kill()
                raise

    def _begin(self, title: str) -> None:
        self.tell.heading(f"{len(self.steps) + 1}. {title}")

    def _end(self, step: StoryStep) -> None:
        self.steps.append(step)
        text = step.seen if step.ok else f"expected {step.expected}; seen {step.seen}"
        self.tell.verdict(step.ok, text)
        if not step.ok:
            if not step.argv:
                self.tell.output(step.output)
            raise StoryFailed(
                f"step {len(self.steps)} ({step.title}): {text}",
                "--keep leaves the world up to look into",
            )


def started(words: Sequence[str], folder: str) -> subprocess.Popen[str]:
    """Start a command line of this tool in a folder, as a world's own; it has one output."""
    return subprocess.Popen(
        [sys.executable, "-m", "remedies", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=child_environment(),
        cwd=folder,
    )


def _sentence(outcome: TrafficOutcome) -> str:
    resets = f"; resets heard by the server: {outcome.resets}" if outcome.resets else ""
    return f"{'lives' if outcome.alive else 'dies'}: {outcome.detail}{resets}"
