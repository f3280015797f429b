"""The figures of ``make bench``: each beside its target, kept as JSON in ``build/bench.json``.

A figure is judged by processor seconds of whole processes (user and system, the least of several
rounds): other work on the machine hardly stretches them, and it stretches the clock. How many times
as much one command takes as another is the middle one of the rounds' ratios. Starting is judged by
instructions, which nothing stretches. A part is measured to its end whatever it shows;
``python tests/bench/figures.py`` prints what the file holds, and fails where a target is missed.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Optional

from remedies.catalogue import condition_ids

BARE = 0.010
"""Seconds of a bare interpreter on the machine on which seconds were named as targets. Here those
are compared in bare interpreters, started beside: another build of Python, or another processor,
takes longer for both."""
STARTS = 9
PLAN_MOST = 8 + 0.2 * (len(condition_ids()) - 6)
"""Bare interpreters that a plan may cost: eight with the first six conditions, and a fifth of one
(2 ms) for each that came since, with the facts it reads: a module takes a million instructions."""
FILE = Path(__file__).resolve().parent.parent.parent / "build" / "bench.json"


@dataclass(frozen=True)
class Cost:
    """What a command took: the least of its runs, but for memory."""

    processor: float
    """Seconds."""
    clock: float
    """Seconds."""
    memory: float
    """The most, in MB."""
    starts: float = 0.0
    """Bare interpreters that take as long: the middle one of some, started just before."""
    each: tuple[Cost, ...] = ()
    """What it took in each round."""

    def ratio(self, other: Cost, what: str = "processor") -> float:
        """Return how many times as much it takes as another command of the same rounds.

        The middle one of the rounds' ratios. The processor may be half as fast for seconds: that
        is so for both commands of a round, and the least runs may be of different seconds.
        """
        pairs = zip(self.each, other.each, strict=True)
        ratios: list[float] = [getattr(one, what) / getattr(two, what) for one, two in pairs]
        return statistics.median(ratios)


@dataclass(frozen=True)
class Figure:
    """One row."""

    part: str
    what: str
    value: float
    unit: str
    target: Optional[float] = None
    least: bool = False
    """The target is a least, not a most."""

    @property
    def held(self) -> str:
        """Tell whether the target is met, where there is one."""
        if self.target is None:
            return ""
        good = self.value >= self.target if self.least else self.value <= self.target
        return "yes" if good else "NO"

    def __str__(self) -> str:
        """Return the row."""
        sign = ">=" if self.least else "<="
        target = "" if self.target is None else f"{sign} {self.target:g}"
        return f"{self.what:66} {self.value:10.3f} {self.unit:4} {target:>9} {self.held:>4}"


def once(argv: Sequence[str], environment: Optional[Mapping[str, str]] = None) -> Cost:
    """Run a command; its output goes nowhere. An exit code of remedy's that is no failure is none.

    Raises RuntimeError.
    """
    null = os.open(os.devnull, os.O_RDWR)
    begun = time.perf_counter()
    child = os.posix_spawnp(
        argv[0],
        list(argv),
        dict(environment or os.environ),
        file_actions=[(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)],
    )
    os.close(null)
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    fine = (0, 2, 8) if any(word.endswith("/remedy") for word in argv) else (0,)
    if code not in (range(4) if argv[-1] == "check" else fine):  # as monitoring reads it
        raise RuntimeError(f"{' '.join(argv)}: exit {code}")
    return Cost(
        usage.ru_utime + usage.ru_stime, time.perf_counter() - begun, usage.ru_maxrss / 1024
    )


def bare(python: str = sys.executable) -> float:
    """Return the processor seconds of an interpreter that does nothing, the least of some."""
    return min(_starts(python))


def start(python: str = sys.executable) -> float:
    """Return the same, the middle one of some: to be compared with what takes seconds.

    A processor may be half as fast for seconds. Who takes seconds meets the good and the bad ones;
    of starts, the middle one does, and the least one only the good ones.
    """
    return statistics.median(_starts(python))


def _starts(python: str) -> list[float]:
    return [once([python, "-I", "-c", "pass"]).processor for _ in range(STARTS)]


def instructions(argv: Sequence[str]) -> int:
    """Return how many instructions a command takes, by valgrind; run it once before, for caches.

    Raises RuntimeError.
    """
    once(argv)
    count = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    ran = subprocess.run([*count, *argv], capture_output=True, text=True, check=False)
    found = re.findall(r"I +refs: +([\d,]+)", ran.stderr)
    if not found:
        raise RuntimeError(f"{' '.join(argv)}: not counted: {ran.stderr[-300:]}")
    return int(found[0].replace(",", ""))


def rounds(
    commands: Mapping[str, Sequence[str]],
    times: int,
    environment: Optional[Mapping[str, str]] = None,
    python: str = sys.executable,
) -> dict[str, Cost]:
    """Run commands in turn, so many times; return the least that each took.

    ``python``: the interpreter whose starts they are compared with.
    """
    seen: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(times):
        one = start(python)
        for name, argv in commands.items():
            cost = once(argv, environment)
            seen[name].append(replace(cost, starts=cost.processor / one))
    return {
        name: Cost(
            min(cost.processor for cost in costs),
            min(cost.clock for cost in costs),
            max(cost.memory for cost in costs),
            min(cost.starts for cost in costs),
            tuple(costs),
        )
        for name, costs in seen.items()
    }


class Part:
    """The figures of one script; they replace those that the file has of it."""

    def __init__(self, name: str) -> None:
        """Begin with none."""
        self._name = name
        self._rows: list[Figure] = []

    def row(
        self, what: str, value: float, unit: str = "x", target: Optional[float] = None,
        *, least: bool = False,
    ) -> None:  # fmt: skip
        """Print a figure, and keep it at once."""
        figure = Figure(self._name, what, round(value, 6), unit, target, least)
        self._rows.append(figure)
        print(figure, flush=True)
        kept = read()
        others = [row for row in kept["rows"] if row["part"] != self._name]
        kept["rows"] = others + [{**asdict(row), "held": row.held} for row in self._rows]
        FILE.parent.mkdir(exist_ok=True)
        draft = FILE.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(kept, indent=1) + "\n")
        draft.replace(FILE)

    def seconds(self, what: str, cost: Cost, most: float) -> None:
        """Print and keep what a command took, beside a target that was named in seconds (BARE)."""
        self.cost(what, cost)
        self.row(f"  {what} / bare interpreter", cost.starts, "x", most / BARE)

    def cost(self, what: str, cost: Cost) -> None:
        """Print and keep what a command took."""
        self.row(what, cost.processor, "s")
        self.row(f"  {what}, by the clock", cost.clock, "s")


def read() -> dict[str, Any]:
    """Return what the file holds, with the machine as it is now."""
    rows = json.loads(FILE.read_text())["rows"] if FILE.exists() else []
    return {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rows": rows,
    }


def main() -> int:
    """Print the file: every figure that has a target. Return 1 where one is missed."""
    missed = 0
    for row in read()["rows"]:
        held = row.pop("held")
        if held:
            print(f"{row['part']:10} {Figure(**row)}")
        missed += held == "NO"
    print(f"{missed} targets are missed" if missed else "every target is met")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
