"""``remedy watch --unattended``: a proven fault is fixed, and one that comes back is not."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import forked_cli
from watching import watching

from remedies.lab.scenarios import tcp_invalid_reset
from remedies.lab.world import Options, World
from remedies.watch import baseline

FAR = 100_000_000
POLICY = """\
apiVersion: remedy/v1
name: alone
extends: default
unattended: {conditions: [tcp-invalid-reset], budget: 3}
"""
FIX = "tcp-be-liberal"


@contextlib.contextmanager
def traffic(world: World) -> Iterator[None]:
    """Send transfers that the fault kills, ten a second."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.1):
            tcp_invalid_reset.transfer(world, FAR)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


def test_a_proven_fault_is_fixed_once_and_a_person_is_asked_when_it_is_back(tmp_path: Path) -> None:
    policy = tmp_path / "alone.yaml"
    policy.write_text(POLICY)
    state = tmp_path / "state"
    with World("tcp-invalid-reset", Options()) as world:
        tcp_invalid_reset.build(world)
        host = world.namespace("host")
        with watching(
            state, "--unattended", "--policy", str(policy), "--window", "500ms", netns=host
        ) as watch:
            watch.await_line(kind="watch-ready")
            assert not tcp_invalid_reset.transfer(world, FAR).alive
            with traffic(world):
                done = watch.await_line(kind="watch-apply")
            assert (done["outcome"], done["fixes"], done["stopped"]) == ("applied", [FIX], False)
            assert tcp_invalid_reset.transfer(world, FAR).alive
            (journal,) = state.glob("*/journal.jsonl")
            assert '"consent":"unattended"' in journal.read_text()

            words = ("--netns", host, "--state-dir", str(state), "rollback", "--yes")
            assert forked_cli.run(*words, done["transaction"]).returncode == 0
            with traffic(world):
                back = watch.await_line(kind="watch-apply")
            assert (back["outcome"], back["transaction"], back["stopped"]) == (None, None, True)
            assert done["transaction"] in back["reason"]
            assert not tcp_invalid_reset.transfer(world, FAR).alive

            Path(baseline.stop_file(str(state))).unlink()
            with traffic(world):
                again = watch.await_line(kind="watch-apply")
            assert (again["outcome"], again["stopped"]) == ("applied", False)
            watch.end()
