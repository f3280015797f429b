"""Which programs a legacy write starts: none that compiles, links or looks for libraries."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from remedies.fixes.invalid_drop import LINE
from remedies.rules import ours

PATH = "mangle/REMEDY-INVALID"
STATE = ours.iptables_chain(PATH, "legacy", ("INPUT", "FORWARD"), (LINE,))
WRITER = """
import sys
from remedies.resources import iptables, iptables_legacy
if sys.argv[1] == "library":
    iptables_legacy._installed = lambda _: False
iptables.write(sys.argv[2], sys.argv[3])
assert iptables.read(sys.argv[2]) == sys.argv[3]
iptables.write(sys.argv[2], None)
"""


@pytest.mark.parametrize("way", ["restore", "library"])
def test_a_legacy_write_starts_no_compiler(netns: Callable[..., str], way: str) -> None:
    argv = ["strace", "-f", "-qq", "-e", "trace=execve", "-e", "signal=none",
            sys.executable, "-c", WRITER, way, PATH, STATE]  # fmt: skip
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{netns()}", "--", *argv],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    started = [line for line in done.stderr.splitlines() if "execve(" in line and "= 0" in line]
    names = {line.split('"')[1].rpartition("/")[2] for line in started}
    python = sys.executable.rpartition("/")[2]
    assert {name for name in names if not name.startswith("iptables-legacy")} == {python}
