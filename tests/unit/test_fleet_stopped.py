"""A signal at moments that no host sees: between two batches, and while a resumed run waits."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from remedies.cli import Terminated, fleet_interrupted, fleet_rollout, parser, settings
from remedies.fleet import rundir, runner
from remedies.fleet.apply import APPLYING, CONFIRMING, LEFT, UNDOING
from remedies.fleet.host_state import HostStanding
from remedies.fleet.rundir import Run, RunTerms
from remedies.fleet.runner import Site

UNTIL = "2026-01-01T00:00:00Z"


def args(folder: Path, *words: str) -> argparse.Namespace:
    found = parser.parse(["fleet", "apply", "--yes", "--run-dir", str(folder), *words])
    settings.fill(found)
    return found


def begun(folder: Path, **more: Any) -> Run:
    return rundir.begin(str(folder), RunTerms(("h,",), ("a", "b", "c"), ("1",), **more))


def raises(by: BaseException) -> Callable[..., Any]:
    def act(*_: object) -> None:
        raise by

    return act


@pytest.mark.parametrize(
    ("by", "code"), [(KeyboardInterrupt(), 130), (Terminated(15), 143), (Terminated(1), 129)]
)
def test_a_signal_between_two_batches_ends_the_rollout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    by: BaseException, code: int,
) -> None:  # fmt: skip
    run, plays = begun(tmp_path), []

    def play(name: str, _site: object, hosts: Sequence[str], *_: object) -> list[str]:
        plays.append((name, *hosts))
        if len(plays) == 2:
            raise by
        run.tell(HostStanding(hosts[0], "confirmed", transaction="T1"))
        return list(hosts)

    monkeypatch.setattr(runner, "play", play)
    assert fleet_rollout.resume(args(tmp_path, "--resume", run.id)) == code
    assert plays == [("apply", "a"), ("apply", "b")]
    out = capsys.readouterr().out
    assert "confirmed   a  transaction T1 stays\n" in out
    assert "untouched   b  not begun\nuntouched   c  not begun\n" in out
    assert f"'remedy fleet apply --resume {run.id} --run-dir {tmp_path}'" in out
    assert not (tmp_path / run.id / "summary.json").exists()


def test_a_signal_while_a_resumed_run_waits_begins_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begun(tmp_path, variables={"remedy_confirm_timeout": 900})
    run.tell(HostStanding("a", "applied", message=APPLYING))
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr(runner, "play", raises(AssertionError("it went on")))
    assert fleet_rollout.resume(args(tmp_path, "--resume", run.id, "--json")) == 130
    assert 890 < waited[0] <= 904
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [word.get("host") for word in told] == ["a", "b", "c", None]
    assert told[-1]["exit"] == 130
    assert told[-1]["resume"] == f"remedy fleet apply --resume {run.id} --run-dir {tmp_path}"


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        (HostStanding("a", "confirmed", transaction="T"), "transaction T stays"),
        (HostStanding("a", "applied", until=UNTIL), "undoes itself at 2026-01-01 "),
        (HostStanding("a", "applied", until=UNTIL, message=LEFT), "undoes itself at 2026-01-01 "),
        (
            HostStanding("a", "applied", until=UNTIL, message=CONFIRMING),
            "it stays, or undoes itself",
        ),
        (HostStanding("a", "applied", until=UNTIL, message=UNDOING), "it is undone by"),
        (HostStanding("a", "applied", message=APPLYING, details={"timeout": 30.0}), "itself 30 s"),
        (HostStanding("a", "untouched"), "not begun"),
        (HostStanding("a", "untouched", 5, "stale", time=UNTIL), "stale"),
        (HostStanding("a", "unreachable", 9, "no route", time=UNTIL), "no route"),
        (HostStanding("a", "reverted", 7, "undone", time=UNTIL), "undone"),
    ],
)
def test_each_state_says_what_the_host_does_by_itself(standing: HostStanding, said: str) -> None:
    assert said in fleet_interrupted.state(standing)


def test_a_signal_while_the_inventory_is_read_ends_what_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, pid = tmp_path / "ansible", tmp_path / "pid"
    program.write_text(f"#!/bin/sh\necho $$ >{pid}.new\nmv {pid}.new {pid}\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(runner, "environment", lambda: {"PATH": os.environ["PATH"]})
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def interrupted() -> None:
        end = time.monotonic() + 20
        while not pid.exists():
            assert time.monotonic() < end
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "_interface", interrupted)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Site(("h,",)).hosts()
    assert time.monotonic() - began < 30
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
