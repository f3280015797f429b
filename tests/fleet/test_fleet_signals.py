"""Signals in a rollout: told host by host, nothing goes on, and the run can be gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from fleet_host import LightHost, wait_until
from light_fleet import Fleet, run
from test_fleet_rollout import outcomes


class Gate:
    """Holds each command that a host is sent, until it is let through."""

    def __init__(self, host: LightHost) -> None:
        self._path, self._came = host.folder / "gate", host.folder / "came"
        os.mkfifo(self._path)
        program = host.folder / "bin" / "python3-gated"
        program.write_text(
            f"#!/bin/sh\n[ -e {self._path} ] && echo >>{self._came} && read go <{self._path}\n"
            'exec /usr/bin/python3 "$@"\n'
        )
        program.chmod(0o755)
        host.variables["ansible_python_interpreter"] = str(program)

    def pass_on(self, commands: int) -> None:
        """Let so many commands through, one after the other; return once the next is held."""
        for number in range(commands + 1):
            wait_until(partial(self._held, number + 1), 60)
            if number < commands:
                with self._path.open("w") as gate:  # waits for the reader
                    gate.write("go\n")

    def _held(self, number: int) -> bool:
        return self._came.exists() and len(self._came.read_text()) == number

    def open(self) -> None:
        """Hold nothing any more, and let the command that is held go where it goes."""
        gate = self._path.open("w")
        self._path.unlink()
        with gate:
            gate.write("go\n")


STAGES: dict[str, tuple[int, str, list[list[str]]]] = {
    "asked": (0, "not begun", [[]]),
    "told to apply": (1, "was being applied", [[], ["reverted"]]),
    "applied": (2, "undoes itself at", [["reverted"]]),
    "told to keep it": (3, "was being confirmed", [["reverted"], ["confirmed"]]),
}
"""Commands that the host has carried out by then, what is said of it, and what may become of it:
the command that is under way may get to its end on the host, or end with its connection."""
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@contextmanager
def rolling(fleet: Fleet, *words: str) -> Iterator[subprocess.Popen[str]]:
    argv = ["fleet", "apply", "-i", fleet.inventory(), "--run-dir", "runs", "--batch", "1",
            "--confirm-timeout", "8s", *words]  # fmt: skip
    with fleet.start("remedy", *argv) as process:
        try:
            yield process
        finally:
            process.kill()


def programs(host: LightHost) -> set[str]:
    """Return the ids of the host's processes: a guard that has something to undo is one."""
    return set(run("ip", "netns", "pids", host.netns).split())


def files(fleet: Fleet) -> dict[Path, bytes]:
    """Return what is in the runs' folders."""
    return {p: p.read_bytes() for p in (fleet.folder / "runs").rglob("*") if p.is_file()}


def workers(fleet: Fleet) -> str:
    """Return what is left of the controller's programs, but for connections that ssh shares."""
    pids = run("ip", "netns", "pids", fleet.netns).split()
    names = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ") for pid in pids]
    return "\n".join(name.decode()[:80] for name in names if not name.startswith(b"ssh: /"))


@pytest.mark.parametrize(
    ("stage", "number"),
    [*((stage, signal.SIGINT) for stage in STAGES), ("applied", signal.SIGTERM)],
)
def test_a_signal_is_told_host_by_host_and_the_run_goes_on_later(
    fleet: Fleet, stage: str, number: signal.Signals
) -> None:
    hosts = [fleet.host(name) for name in ("a", "b", "c")]
    before = [host.ruleset() for host in hosts]
    assert fleet.remedy("scan")[0] == 0  # the host tool is there: one command is one start
    gate = Gate(hosts[1])
    commands, said, ends = STAGES[stage]
    there = programs(hosts[1])
    with rolling(fleet, "--yes") as controller:
        gate.pass_on(commands)
        controller.send_signal(number)
        out, err = controller.communicate(timeout=30)
    assert controller.returncode == SIGNALS[number], out + err
    assert workers(fleet) == ""
    lines = {line.split()[1]: line for line in out.splitlines() if line[:1].islower()}
    assert lines["a"].startswith("confirmed"), out
    assert said in lines["b"], out
    assert "not begun" in lines["c"], out
    (name,) = (path.name for path in (fleet.folder / "runs").iterdir())
    resume = ["remedy", "fleet", "apply", "--resume", name, "--run-dir", "runs"]
    assert f"Next: '{' '.join(resume)}'" in out, out
    assert [hosts[0].has_table(), hosts[2].has_table()] == [True, False]

    gate.open()
    wait_until(lambda: programs(hosts[1]) <= there, 40)
    assert outcomes(hosts[1]) in ends
    assert hosts[1].has_table() == (outcomes(hosts[1]) == ["confirmed"])
    assert hosts[1].has_table() or hosts[1].ruleset() == before[1]
    runs = files(fleet)
    dry, out, err = fleet.call(*resume, "-n")
    assert dry == 0, out + err
    assert "+table inet" in out, out
    assert not hosts[2].has_table()
    assert files(fleet) == runs
    code, out, err = fleet.call(*resume, "--yes", "--json")
    assert code == 0, out + err
    assert all(host.has_table() for host in hosts)
    told = [json.loads(line) for line in out.splitlines()]
    assert {w["host"]: w["state"] for w in told if w["kind"] == "host"} == {
        "b": "confirmed", "c": "confirmed",
    }  # fmt: skip
