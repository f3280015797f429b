"""A ``remedy watch`` under way: read line by line, ended as systemd does."""

from __future__ import annotations

import contextlib
import json
import os
import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from cli_shapes import departures
from forked_cli import Piped, Started

from remedies.lab.world import child_environment
from remedies.namespaces.netns import inside

Line = dict[str, Any]
PATIENCE = 60.0
"""Seconds that a line may take on a busy machine; a test that passes waits for none of them."""


class LiveWatch:
    """A watch that is under way."""

    def __init__(self, child: Started) -> None:
        self.child = child
        self._rest = b""
        self._waiting: list[Line] = []
        self.lines: list[Line] = []

    def await_line(self, **wanted: object) -> Line:
        """Return the next line with these values, as soon as it is there."""
        until = time.monotonic() + PATIENCE
        while True:
            while self._waiting:
                self.lines.append(self._waiting.pop(0))
                if all(self.lines[-1].get(name) == value for name, value in wanted.items()):
                    return self.lines[-1]
            self._read(until, wanted)

    def _read(self, until: float, wanted: object) -> None:
        assert self.child.stdout is not None
        pipe = self.child.stdout.fileno()
        ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
        assert ready, f"no {wanted}; heard {self.lines}"
        content = os.read(pipe, 1 << 16)
        assert content, f"the watch has ended: {self.child.stderr and self.child.stderr.read()!r}"
        *whole, self._rest = (self._rest + content).split(b"\n")
        self._waiting = [json.loads(line) for line in whole]
        assert [one for line in self._waiting for one in departures(line)] == []

    def end(self) -> list[Line]:
        """End it as systemd does; return every line that it printed."""
        self.child.terminate()
        out, errors = self.child.communicate(timeout=PATIENCE)
        assert self.child.returncode == 0, errors
        self.lines += [*self._waiting, *map(json.loads, (self._rest + out).splitlines())]
        return self.lines


@contextlib.contextmanager
def watching(
    state: Path,
    *words: str,
    netns: Optional[str] = None,
    begun_in: Optional[str] = None,
    interval: str = "200ms",
) -> Iterator[LiveWatch]:
    """Watch one namespace, or everything; it is killed if the test does not end it.

    ``begun_in``: the namespace that it is started in, where its numbers are served.
    """
    where = ["--netns", netns] if netns else []
    words = ("--state-dir", str(state), *where, "watch", "--json", "--interval", interval,
             "--window", "0", *words)  # fmt: skip
    with inside(begun_in) if begun_in else contextlib.nullcontext():
        child = Piped(words, env=child_environment())
    with child:
        try:
            yield LiveWatch(child)
        finally:
            if child.poll() is None:
                child.kill()
