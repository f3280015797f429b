"""A flood of resets: bounded memory, and every packet is heard, counted or reported as lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from remedies.lab.topology import container_host
from remedies.lab.world import Options, World, child_environment
from remedies.trace.rate_limit import PER_SECOND

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))

from trace_flood import drop_flood, flood, measure, resets


@pytest.mark.parametrize("tuples", [64, 20_000])
def test_every_reset_of_a_flood_is_accounted_for(tuples: int) -> None:
    with World("trace-flood", Options()) as world:
        container_host(world)
        figures = measure(world, rate=20_000, seconds=1.0, tuples=tuples)
    assert figures.sent > 10_000  # a busy machine may lose some on their way
    assert figures.accounted == figures.sent
    # Each SYN met no socket; a new link drops some multicast beside.
    assert figures.sent <= figures.summary["dropped"] <= figures.sent + 100
    assert figures.peak < 60
    assert figures.lines <= 2 * PER_SECOND * (figures.listened + 1)


def test_every_packet_of_a_flood_that_a_rule_drops_is_counted() -> None:
    """Each from another sender, as fast as this machine sends them, up to 200,000 a second."""
    with World("trace-flood", Options()) as world:
        container_host(world)
        figures = measure(world, 200_000, 0.5, 100_000, drop_flood)
    # A new link drops some multicast beside.
    assert 100_000 <= figures.summary["dropped"] <= 100_100
    assert figures.summary["drops_lost"] > 80_000
    assert figures.peak < 60
    assert figures.lines <= 2 * PER_SECOND * (figures.listened + 1)
    told = [drop for drop in figures.drops if drop["protocol"] == "udp"]
    # The ports lie in another page: none is told rather than what lies behind the header.
    assert {(drop["source_port"], drop["destination_port"]) for drop in told} == {(0, 0)}


def test_what_is_lost_is_said() -> None:
    """A trace that is stopped for a while cannot keep up; the kernel counts what it drops."""
    with World("trace-flood", Options()) as world:
        container_host(world)
        child = subprocess.Popen(
            [sys.executable, "-m", "remedies", "--netns", world.namespace("host"), "trace",
             "--json", "--for", "30s"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=child_environment(),
        )  # fmt: skip
        with child:
            assert child.stderr is not None
            assert "listening" in child.stderr.readline()
            child.send_signal(signal.SIGSTOP)
            try:
                flood(world, rate=100_000, seconds=0.6, tuples=64)
                sent = resets(world)
            finally:
                child.send_signal(signal.SIGCONT)
            child.send_signal(signal.SIGINT)
            out, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    summary = json.loads(out.splitlines()[-1])
    assert summary["lost"] > 0
    assert summary["heard"]["reset"] + summary["unexamined"] + summary["lost"] == sent
