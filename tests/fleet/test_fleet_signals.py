"""Signals in a rollout: told host by host, nothing goes on, and the run can be gone on with."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from fleet_host import BUNDLE, LightHost
from forked_cli import Started
from light_fleet import BIN, Fleet, run
from residents import residents
from test_fleet_rollout import outcomes, programs
from waiting import eventually

from remedies.transaction import actor


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
            eventually(partial(self._held, number + 1), 60)
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
def rolling(fleet: Fleet, program: str, *words: str) -> Iterator[Started]:
    argv = [program, "fleet", "apply", "-i", fleet.inventory(), "--run-dir", "runs", "--batch", "1",
            "--confirm-timeout", "16s", *words]  # fmt: skip
    with fleet.start(*argv) as process:
        try:
            yield process
        finally:
            process.kill()


def files(fleet: Fleet) -> dict[Path, bytes]:
    """Return what is in the runs' folders."""
    return {p: p.read_bytes() for p in (fleet.folder / "runs").rglob("*") if p.is_file()}


def workers(fleet: Fleet) -> str:
    """Return what is left of the controller's programs, but for connections that ssh shares."""
    pids = map(int, run("ip", "netns", "pids", fleet.netns).split())
    names = residents(pids).values()
    return "\n".join(name[:80] for name in names if not name.startswith("ssh: /"))


@pytest.mark.parametrize(
    ("stage", "number"),
    [(stage, signal.SIGTERM if stage == "told to apply" else signal.SIGINT) for stage in STAGES],
)
def test_a_signal_is_told_host_by_host_and_the_run_can_be_gone_on_with(
    fleet: Fleet, stage: str, number: signal.Signals
) -> None:
    """The whole story is told of one stage: of the others, what becomes of the host.

    Of that one every program is started as a person would; of the others they are forks.
    """
    whole = stage == "applied"
    first = [fleet.host("a")] if whole else []
    at, last = fleet.host("b"), fleet.host("c")
    before = at.ruleset()
    gate = Gate(at)
    commands, said, ends = STAGES[stage]
    with rolling(fleet, f"{BIN}/remedy" if whole else "remedy", "--yes") as controller:
        gate.pass_on(1 + commands)  # the first one is its plan
        controller.send_signal(number)
        out, err = (said.decode() for said in controller.communicate(timeout=90))
    assert controller.returncode == SIGNALS[number], out + err
    assert workers(fleet) == ""
    lines = {line.split()[1]: line for line in out.splitlines() if line[:1].islower()}
    assert [lines[host.name].startswith("confirmed") for host in first] == [True] * whole, out
    assert said in lines["b"], out
    assert "not begun" in lines["c"], out
    (name,) = (path.name for path in (fleet.folder / "runs").iterdir())
    resume = ["remedy", "fleet", "apply", "--resume", name, "--run-dir", "runs"]
    assert f"Next: '{' '.join(resume)}'" in out, out
    assert [host.has_table() for host in (*first, last)] == [*[True] * whole, False]

    gate.open()
    eventually(lambda: not programs(at), 40)
    assert outcomes(at) in ends
    assert at.has_table() == (outcomes(at) == ["confirmed"])
    assert at.has_table() or at.ruleset() == before
    if not whole:
        return
    runs = files(fleet)
    dry, out, err = fleet.call(*resume, "-n")
    assert dry == 0, out + err
    assert "+table inet" in out, out
    assert not last.has_table()
    assert files(fleet) == runs
    code, out, err = fleet.call(*resume, "--yes", "--json")
    assert code == 0, out + err
    assert all(host.has_table() for host in (*first, at, last))
    told = [json.loads(line) for line in out.splitlines()]
    assert {w["host"]: w["state"] for w in told if w["kind"] == "host"} == {
        "b": "confirmed", "c": "confirmed",
    }  # fmt: skip


NOTHING_SENT = ("untouched", "the controller was stopped: nothing was sent")


def test_a_killed_controller_begins_and_confirms_no_host_any_more(fleet: Fleet) -> None:
    """Ansible and its workers live on, and find that nobody leads them."""
    hosts = [fleet.host(name) for name in ("a", "b", "c")]
    before = [host.ruleset() for host in hosts]
    gate = Gate(hosts[1])
    words = ["--yes", "--batch", "3", "--forks", "1"]
    with rolling(fleet, f"{BIN}/remedy", *words) as controller:
        gate.pass_on(2)
        controller.kill()
        gate.open()
        eventually(lambda: workers(fleet) == "", 60)
    eventually(lambda: not programs(hosts[1]), 40)
    assert [outcomes(host) for host in hosts] == [["confirmed"], ["reverted"], []]
    assert [host.ruleset() for host in hosts[1:]] == before[1:]
    (folder,) = (fleet.folder / "runs").iterdir()
    said = [json.loads(line) for line in (folder / "states.jsonl").read_text().splitlines()]
    last = {word["host"]: (word["state"], word["message"]) for word in said}
    assert last["b"] == ("applied", "the controller was stopped: left to undo itself")
    # Ansible itself may have ended before c, when it found its terminal gone.
    assert last.get("c", NOTHING_SENT) == NOTHING_SENT

    code, told, output = fleet.resume(folder.name)
    assert code == 0, output
    assert {name: word["state"] for name, word in told.items()} == {
        "b": "confirmed", "c": "confirmed",
    }, output  # fmt: skip
    assert all(host.has_table() for host in hosts)


def answered(fleet: Fleet, answer: bytes, meanwhile: Callable[[], object], *words: str,
             ) -> tuple[int, str]:  # fmt: skip
    """Run ``fleet apply`` on a terminal; return exit code and all that it showed."""
    argv = [f"{BIN}/remedy", "fleet", "apply", "-i", fleet.inventory(), "--run-dir", "runs", *words]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
    with subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{fleet.netns}", "setsid", "--ctty", *argv],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=fleet.folder,
        env={**fleet.environment(), "TERM": "dumb"},
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = said_until(ours, b"[y/N] ")
        meanwhile()
        os.write(ours, answer)
        shown += said_until(ours, b"")
        code = process.wait(timeout=60)
    os.close(ours)
    return code, shown.decode().replace("\r\n", "\n")


def said_until(terminal: int, mark: bytes) -> bytes:
    """Return what comes until the mark; without one, until nobody writes there any more."""
    shown = b""
    while not (mark and mark in shown):
        assert select.select([terminal], [], [], 90)[0], shown
        try:
            part = os.read(terminal, 65536)
        except OSError:  # EIO: nobody has the other side open any more
            part = b""
        if not part:
            assert not mark, shown
            return shown
        shown += part
    return shown


def test_the_question_comes_with_each_groups_diff_and_what_was_shown_is_applied(
    fleet: Fleet,
) -> None:
    hosts = [fleet.host(name) for name in ("a", "b")]
    fleet.host("done", exposed=False)
    code, shown = answered(fleet, b"\x03", lambda: None)
    assert code == 130, shown
    assert "2 hosts: a, b\n  + nft:inet/remedy_invalid_drop" in shown, shown
    assert "+table inet remedy_invalid_drop {" in shown, shown
    assert "1 host: done\n  nothing to change" in shown, shown
    assert "Apply to 2 hosts, in batches of 2? [y/N]" in shown, shown
    assert "stopped; nothing was changed" in shown, shown
    assert not (fleet.folder / "runs").exists()
    assert not any(outcomes(host) for host in hosts)

    def move() -> None:
        hosts[1].inside("nft", "delete", "table", "ip", "world_nat")

    code, shown = answered(fleet, b"y\n", move, "--max-fail", "1")
    assert code == 5, shown
    assert [host.has_table() for host in hosts] == [True, False]
    text = hosts[0].on("sh", "-c", "cat /var/lib/remedy/*/journal.jsonl")
    (begin,) = (r["data"] for r in map(json.loads, text.splitlines()) if r["kind"] == "begin")
    assert begin["consent"] == "playbook"
    assert begin["approver"] == actor.user()


def test_a_signal_in_a_rollback_says_who_answered(fleet: Fleet) -> None:
    hosts = [fleet.host(name) for name in ("a", "b")]
    assert fleet.remedy("apply", "--yes", "--run-dir", "runs")[0] == 0
    gate = Gate(hosts[1])
    (name,) = (path.name for path in (fleet.folder / "runs").iterdir())
    words = ["fleet", "rollback", "--run", name, "--run-dir", "runs", "-i", fleet.inventory(),
             "--yes", "--forks", "1"]  # fmt: skip
    with fleet.start("remedy", *words) as rollback:
        gate.pass_on(0)
        rollback.send_signal(signal.SIGINT)
        out, err = (said.decode() for said in rollback.communicate(timeout=90))
    assert rollback.returncode == 130, out + err
    assert workers(fleet) == ""
    lines = {line.split()[1]: line for line in out.splitlines() if line[:1].islower()}
    assert lines["a"].startswith("reverted"), out
    assert "stopped before it answered: 'remedy fleet report' shows its state" in lines["b"]
    assert not hosts[0].has_table()
    said = (fleet.folder / "runs" / name / "states.jsonl").read_text().splitlines()
    assert json.loads(said[-1])["state"] == "reverted"


def test_a_dry_run_over_the_fleet_changes_no_host_and_no_run(fleet: Fleet) -> None:
    hosts = [fleet.host(name) for name in ("done", "new", "waits")]
    words = ["--run-dir", "runs"]
    assert fleet.remedy("apply", "--yes", "--limit", "done", *words)[0] == 0
    assert fleet.remedy("plan", "-o", "plans", "--exclude", "done")[0] == 0
    hosts[2].on("sh", "-c", f"{BUNDLE} apply --yes --no-wait --window 0 --confirm-timeout 600s")
    (name,) = (path.name for path in (fleet.folder / "runs").iterdir())
    with (fleet.folder / "runs" / name / "states.jsonl").open("a") as log:
        word = {"host": "done", "state": "reverted", "rc": 7, "time": "2026-01-01T00:00:00Z"}
        log.write(json.dumps(word) + "\n")  # something is left to be resumed

    def everything() -> list[object]:
        journals = "cat /var/lib/remedy/*/journal.jsonl 2>/dev/null || true"
        return [files(fleet), *((h.ruleset(), h.on("sh", "-c", journals)) for h in hosts)]

    before = everything()
    site = ["-i", fleet.inventory()]
    dry = {
        "apply": (["apply", *site, *words, "--exclude", "waits"], "+table inet"),
        "approved": (["apply", "plans", *site, *words, "--limit", "new"], "+table inet"),
        "resume": (["apply", "--resume", name, *words, "--undo", "all"], "nothing to change"),
        "run": (["rollback", "--run", name, *words, *site], ""),
        "every": (["rollback", "--every", *site, "--limit", "done"], "-table inet"),
        "confirm": (["confirm", *site], "3 hosts: 3 untouched"),
    }
    for what, (argv, shown) in dry.items():
        # A dry run asks nothing; where one was agreed to nevertheless, it changes nothing either.
        agreed = () if what in ("apply", "run") else ("--yes",)
        code, out, err = fleet.call("remedy", "fleet", *argv, "-n", *agreed)
        assert code in (0, 8), (what, out, err)
        assert shown in out, (what, out, err)
        assert everything() == before, what
