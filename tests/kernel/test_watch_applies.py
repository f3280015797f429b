"""``remedy watch --unattended``: a proven fault is fixed, and one that comes back is not."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import forked_cli
import pytest
from watching import watching

from remedies.lab.scenarios import mtu_black_hole, stale_flow, tcp_invalid_reset
from remedies.lab.world import Options, World
from remedies.watch import baseline

FAR = 100_000_000
POLICY = """\
apiVersion: remedy/v1
name: alone
extends: default
rules:
  CONDITION: {mode: fix, from: proven, fixes: [FIX]}
unattended: {conditions: [CONDITION], budget: 3}
"""
FIX = "tcp-be-liberal"


def written(folder: Path, condition: str, fix: str) -> str:
    """Write the policy that has a fault fixed with nobody there, and return its path."""
    policy = folder / "alone.yaml"
    policy.write_text(POLICY.replace("CONDITION", condition).replace("FIX", fix))
    return str(policy)


@contextlib.contextmanager
def repeated(some: Callable[[], object]) -> Iterator[None]:
    """Do something over and over, ten times a second."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.1):
            some()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


def test_a_proven_fault_is_fixed_once_and_a_person_is_asked_when_it_is_back(tmp_path: Path) -> None:
    policy = written(tmp_path, "tcp-invalid-reset", FIX)
    state = tmp_path / "state"
    with World("tcp-invalid-reset", Options()) as world:
        tcp_invalid_reset.build(world)
        host = world.namespace("host")
        with watching(
            state, "--unattended", "--policy", policy, "--window", "500ms", netns=host
        ) as watch:
            watch.await_line(kind="watch-ready")
            assert not tcp_invalid_reset.transfer(world, FAR).alive
            with repeated(lambda: tcp_invalid_reset.transfer(world, FAR)):
                done = watch.await_line(kind="watch-apply")
            assert (done["outcome"], done["fixes"], done["stopped"]) == ("applied", [FIX], False)
            assert tcp_invalid_reset.transfer(world, FAR).alive
            (journal,) = state.glob("*/journal.jsonl")
            assert '"consent":"unattended"' in journal.read_text()

            words = ("--netns", host, "--state-dir", str(state), "rollback", "--yes")
            assert forked_cli.run(*words, done["transaction"]).returncode == 0
            with repeated(lambda: tcp_invalid_reset.transfer(world, FAR)):
                back = watch.await_line(kind="watch-apply")
            assert (back["outcome"], back["transaction"], back["stopped"]) == (None, None, True)
            assert done["transaction"] in back["reason"]
            assert not tcp_invalid_reset.transfer(world, FAR).alive

            Path(baseline.stop_file(str(state))).unlink()
            with repeated(lambda: tcp_invalid_reset.transfer(world, FAR)):
                again = watch.await_line(kind="watch-apply")
            assert (again["outcome"], again["stopped"]) == ("applied", False)
            watch.end()


@pytest.mark.parametrize("scenario", [stale_flow, mtu_black_hole], ids=lambda each: each.CONDITION)
def test_every_other_harmless_fix_is_applied_where_policy_says_so(
    scenario: ModuleType, tmp_path: Path
) -> None:
    policy = written(tmp_path, scenario.CONDITION, scenario.FIXES[0])
    with World(scenario.CONDITION, Options()) as world:
        scenario.build(world)
        words = ("--unattended", "--policy", policy, "--window", "500ms")
        with watching(tmp_path / "state", *words, netns=world.namespace("host")) as watch:
            watch.await_line(kind="watch-ready")
            with repeated(lambda: scenario.traffic(world)):
                done = watch.await_line(kind="watch-apply")
            assert (done["outcome"], done["fixes"]) == ("applied", list(scenario.FIXES)), done
            assert scenario.traffic(world).alive
            watch.end()
