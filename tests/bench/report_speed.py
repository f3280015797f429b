"""What reports cost: 100,000 journal records as HTML, a rollout to 1,000 hosts, the chain's check.

Run as ``python tests/bench/report_speed.py``; :mod:`figures` says how costs are judged.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
from pathlib import Path

import figures
import journal_speed

ROOT = Path(__file__).resolve().parent.parent.parent
HOSTS = 1_000
ROUNDS = 3
TARGET = {"audit verify": (2.0, 200), "report of a journal": (5.0, 200), "fleet": (5.0, 200)}


def measured(part: figures.Part, name: str, *argv: str) -> None:
    """Run a process some times and print what it took beside its target."""
    cost = figures.rounds({name: [sys.executable, *argv]}, ROUNDS)[name]
    limit, size = TARGET[name]
    part.seconds(name, cost, limit)
    part.row("  its memory", cost.memory, "MB", size)


def rollout(folder: Path) -> str:
    """Write the folder of a rollout to many hosts as ``remedy fleet apply`` leaves it."""
    import report_samples

    from remedies import codec
    from remedies.fleet import records, rundir
    from remedies.fleet.host_state import HostStanding

    fleet = report_samples.fleet(HOSTS)
    names = tuple(host.place.name for host in fleet.hosts)
    run = rundir.begin(str(folder), rundir.RunTerms(("inventory",), names, ("100%",)))
    place = Path(records.folder(run))
    place.mkdir()
    head = {"kind": "report", "format_version": "1.0"}
    for host in fleet.hosts:
        text = json.dumps({**head, "hosts": [codec.encode(host)]}, separators=(",", ":"))
        (place / f"{host.place.name}.json").write_text(text)
    words = (HostStanding(name, "confirmed", time="2026-11-20T18:00:00Z") for name in names)
    Path(run.log).write_text("".join(f"{codec.dumps(word)}\n" for word in words))
    return run.folder


def main() -> None:
    """Measure each."""
    from remedies.facts.host import read_host

    part = figures.Part("report")
    with tempfile.TemporaryDirectory(prefix="remedy-bench-") as place:
        folder = Path(place) / read_host().netns
        folder.mkdir()
        # In a process of its own: a new process is charged with the memory of the one it came from.
        writer = multiprocessing.Process(target=journal_speed.write, args=(str(folder),))
        writer.start()
        writer.join()
        state = ("--state-dir", place)
        measured(part, "audit verify", "-m", "remedies", "audit", "verify", *state)
        measured(part, "report of a journal", "-m", "remedies", "report", "--no-scan", *state,
                 "-o", f"html:{place}/report.html")  # fmt: skip
        run = rollout(Path(place))
        measured(part, "fleet", "-m", "remedies", "report", "--fleet", run, "-o",
                 f"html:{place}/fleet.html")  # fmt: skip


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests/unit")]
    main()
