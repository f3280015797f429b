"""What a long journal costs: the same verbs without one and with 100,000 records.

Run as ``python tests/bench/journal_speed.py``; :mod:`figures` says how costs are judged.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from unittest import mock

import figures
import ordinary

from remedies.fixes import invalid_drop
from remedies.model import Change
from remedies.namespaces.netns import inside
from remedies.transaction import journal, ledger, segments
from remedies.transaction.ledger import Begin

NAME = "remedy-bench-journal"
RECORDS = 100_000
RUNS = 7
MOST = {"history": 0.2, "history --limit 0": 3.0}
CHANGE = Change(
    fix="invalid-drop",
    finding="f" * 16,
    resource=f"nft:{invalid_drop.TABLE}",
    action="create",
    before=None,
    after=invalid_drop.table(),
    diff="@@ -0,0 +1,10 @@" + "\n+  chain input { }" * 10,
    reversibility="exact",
    risk="moderate",
    impact="INVALID TCP segments are dropped instead of answered with a reset",
)


def write(folder: str) -> int:
    """Write a journal with the tool's own code, but for fsync; return its number of segments.

    It ends with a segment that is nearly half full: what is measured then fills it up.
    """
    path = os.path.join(folder, journal.NAME)
    count = turn = 0
    with (
        mock.patch("os.fsync"),
        mock.patch.object(journal, "anchor"),
        journal.Journal(folder) as out,
    ):
        while count < RECORDS or not 0.4 < os.path.getsize(out.path) / journal.SEGMENT < 0.5:
            if out.full:
                out.rotate(ledger.checkpoint(ledger.transactions(journal.latest(path))))
            for kind, data in _transaction(turn):
                out.append(kind, _id(turn), data)
                count += 1
            turn += 1
    return len(segments.segments(path))


def _id(turn: int) -> str:
    return f"20261101T000000Z-{turn:05}"


def _transaction(turn: int) -> list[tuple[str, dict[str, object]]]:
    """Return the records of an apply, or at every other turn of its rollback."""
    undo = turn % 2 == 1
    begin = Begin(
        kind="rollback" if undo else "apply",
        changes=(CHANGE.reversed() if undo else CHANGE,),
        tool="0.1.0",
        host="h",
        machine_id="m",
        boot_id="b",
        user="root",
        command="remedy apply --yes",
        undoes=(_id(turn - 1),) if undo else (),
    )
    return [
        ("begin", begin.plain()),
        ("written", {"change": 0}),
        ("verified", {"verified": [], "findings": []}),
        ("end", {"outcome": "rolled-back" if undo else "applied"}),
    ]


def rows(part: figures.Part, state: str, label: str) -> None:
    """Measure the verbs with one state directory, in rounds, so that each has something to do."""
    remedy = shutil.which("remedy", path=os.path.dirname(sys.executable)) or "remedy"
    words = (
        "history",
        "history --limit 0",
        "status",
        "plan --window 0",
        "apply --yes --window 0 --confirm-timeout 60s",
        "confirm",
        "apply --yes --window 0",
        "rollback --yes",
    )
    commands = {}
    for line in words:
        verb, *options = line.split()
        commands[line] = [remedy, "--netns", NAME, verb, "--state-dir", state, *options]
    for line, cost in figures.rounds(commands, RUNS).items():
        if line in MOST:
            part.seconds(f"{label}: {line}", cost, MOST[line])
        else:
            part.cost(f"{label}: {line}", cost)


def main() -> None:
    """Measure without a journal, and with a long one."""
    part = figures.Part("journal")
    ordinary.remove(NAME)
    with tempfile.TemporaryDirectory(prefix="remedy-bench-") as place:
        try:
            ordinary.build(NAME)
            rows(part, f"{place}/none", "no journal")
            with inside(NAME):
                from remedies.facts.host import read_host

                folder = Path(place, "long", read_host().netns)
            folder.mkdir(mode=0o700, parents=True)
            count = write(str(folder))
            rows(part, f"{place}/long", f"{count} segments")
        finally:
            ordinary.remove(NAME)


if __name__ == "__main__":
    main()
