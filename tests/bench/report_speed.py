"""What reports cost: 100,000 journal records as HTML, a fleet of 1,000 hosts, the chain's check.

Run as ``python tests/bench/report_speed.py``; prints seconds and peak memory of whole processes.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RECORDS = 100_000
HOSTS = 1_000
TARGET = {"audit verify": (2.0, 200), "report of a journal": (5.0, 200), "fleet": (5.0, 200)}

DIFF = "@@ -0,0 +1,4 @@\n+table inet remedy_invalid_drop {\n+  chain input {\n+  }\n+}"

FLEET = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests/unit")!r}]
import report_samples
from remedies.report import load
from remedies.report.redact import fit
size = sum(len(p) for p in load("html").render(fit(report_samples.fleet({HOSTS}))))
print(size)
"""


def journal(folder: Path) -> None:
    """Write a long journal: its records and chain as the tool's own, without fsync."""
    import json

    from remedies.model import Change
    from remedies.transaction.journal import GENESIS, NAME, VERSION, _hash
    from remedies.transaction.ledger import Begin

    change = Change(
        fix="invalid-drop",
        finding="f" * 16,
        resource="nft:inet/remedy_invalid_drop",
        action="create",
        before=None,
        after="table inet remedy_invalid_drop {}",
        diff=DIFF,
        reversibility="exact",
        risk="moderate",
        impact="drops",
    )
    previous, number = GENESIS, 0
    with open(folder / NAME, "w", encoding="ascii") as file:
        for i in range(RECORDS // 4):
            undo = i % 2 == 1
            txn, last = (f"20261101T000000Z-{n:05}" for n in (i, i - 1))
            begin = Begin(
                kind="rollback" if undo else "apply",
                changes=(change.reversed() if undo else change,),
                tool="0.1.0",
                host="h",
                machine_id="m",
                boot_id="b",
                user="root",
                command="remedy apply --yes",
                undoes=(last,) if undo else (),
            )
            for what, data in (
                ("begin", begin.plain()),
                ("written", {"change": 0}),
                ("effect", {"change": 0, "effect": "flow:x"}),
                ("end", {"outcome": "applied"}),
            ):
                number += 1
                plain = {
                    "v": VERSION,
                    "seq": number,
                    "time": "2026-11-01T00:00:00Z",
                    "kind": what,
                    "txn": txn,
                    "prev": previous,
                    "data": data,
                }
                previous = plain["hash"] = _hash(plain)
                file.write(json.dumps(plain, separators=(",", ":")) + "\n")


def measured(name: str, *argv: str) -> None:
    """Run a process and print what it took beside its target."""
    began = time.monotonic()
    subprocess.run([sys.executable, *argv], check=True, stdout=subprocess.DEVNULL, timeout=120)
    seconds = time.monotonic() - began
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    limit, size = TARGET[name]
    print(f"{name:22} {seconds:5.2f} s (<= {limit:g})   {most} MB at most so far (<= {size})")


def main() -> None:
    """Measure each."""
    from remedies.facts.host import read_host

    with tempfile.TemporaryDirectory(prefix="remedy-bench-") as place:
        folder = Path(place) / read_host().netns
        folder.mkdir()
        journal(folder)
        state = ("--state-dir", place)
        measured("audit verify", "-m", "remedies", "audit", "verify", *state)
        measured("report of a journal", "-m", "remedies", "report", "--no-scan", *state,
                 "-o", f"html:{place}/report.html")  # fmt: skip
        measured("fleet", "-c", FLEET)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
