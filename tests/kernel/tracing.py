"""A trace of a world's host under way: read line by line, ended as Ctrl-C does."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Optional

import pytest
from cli_shapes import departures
from forked_cli import Piped, Started

from remedies.lab.world import World, child_environment
from remedies.trace import tracefs

families = pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
Line = dict[str, Any]


class Trace:
    """A trace that is under way."""

    patience = 30.0
    """Seconds without a line after which nothing more is awaited."""

    def __init__(self, child: Started) -> None:
        self._child = child
        self._rest = b""
        self._waiting: list[Line] = []
        self.lines: list[Line] = []
        self.code = 0

    @property
    def pid(self) -> int:
        """The process that traces."""
        return self._child.pid

    def await_event(self, **wanted: object) -> Line:
        """Return the next line with these values, as soon as it is there."""
        (found,) = self.await_events(wanted)
        return found

    def await_events(self, *wanted: dict[str, object]) -> list[Line]:
        """Return a line for each of these, in whatever order they come."""
        found: dict[int, Line] = {}
        for line in self._told():
            for number, values in enumerate(wanted):
                if values.items() <= line.items():
                    found.setdefault(number, line)
            if len(found) == len(wanted):
                return [found[number] for number in range(len(wanted))]
        raise AssertionError(f"not all of {wanted}; heard {self.lines}")

    def _told(self) -> Iterator[Line]:
        """Yield lines as they come, until nothing has come for :attr:`patience`."""
        assert self._child.stdout is not None
        pipe = self._child.stdout.fileno()
        while self._waiting or select.select([pipe], [], [], self.patience)[0]:
            if not self._waiting:
                content = os.read(pipe, 1 << 16)
                assert content, "the trace has ended"
                *whole, self._rest = (self._rest + content).split(b"\n")
                self._waiting = [json.loads(line) for line in whole]
                continue
            self.lines.append(self._waiting.pop(0))
            yield self.lines[-1]

    def end(self) -> Line:
        """End the trace as Ctrl-C does; return its summary."""
        errors = self.interrupt()
        assert self.code == 130, errors
        assert self.lines[-1]["kind"] == "trace"
        return self.lines[-1]

    def interrupt(self) -> str:
        """End the trace as Ctrl-C does, whatever its exit code; return what it warns of."""
        self._child.send_signal(signal.SIGINT)
        out, errors = self._child.communicate(timeout=60)
        self.code = self._child.wait(60)
        self.lines += [*self._waiting, *map(json.loads, (self._rest + out).splitlines())]
        assert [one for line in self.lines for one in departures(line)] == []
        return errors.decode()

    def await_end(self) -> None:
        """Wait until the process is gone."""
        self._child.wait(60)

    @property
    def proofs(self) -> list[str]:
        """Return the conditions that were proven."""
        return [line["condition"] for line in self.lines if line.get("verdict") == "proven"]


_UNMOUNTED = f'umount --quiet {tracefs.MOUNTED}; exec "$@"'


@contextlib.contextmanager
def trace(world: Optional[World], *arguments: str, drop: str = "") -> Iterator[Trace]:
    """Trace a world's host, or the machine; ``drop``: without capabilities, and without tracefs.

    A machine may have that mounted, for other programs.
    """
    words = ["trace", "--json", "--for", "60s", *arguments]
    child: Started
    if world is not None and drop:
        prefix = [*world.entering("host"), "unshare", "--mount", "sh", "-c", _UNMOUNTED, "sh",
                  "setpriv", f"--bounding-set=-{drop}"]  # fmt: skip
        child = subprocess.Popen(
            [*prefix, sys.executable, "-m", "remedies", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=child_environment(),
        )  # fmt: skip
    else:
        where = [] if world is None else ["--netns", world.namespace("host")]
        child = Piped([*where, *words], env=child_environment())
    with child:
        try:
            assert child.stderr is not None
            assert b"listening" in child.stderr.readline()
            yield Trace(child)
        finally:
            if child.poll() is None:
                child.terminate()


def rule(world: World, role: str, rule: str, hook: str) -> None:
    """Add a rule in a table of its own."""
    family = "ip" if world.options.family == 4 else "ip6"
    world.run(
        role,
        ["nft", "-f", "-"],
        f"add table {family} lab_trace\n"
        f"add chain {family} lab_trace c {{ {hook}; }}\n"
        f"add rule {family} lab_trace c {rule}\n",
    )
