"""However a lab ends, nothing of it stays: namespaces, processes, files."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from residents import residents

from remedies.errors import RemedyError, UsageError
from remedies.lab import registry
from remedies.lab.run import up
from remedies.lab.scenarios import udp_reply_source
from remedies.lab.world import Options, World
from remedies.namespaces.netns import RUN_DIR

OWNER = """
import signal, sys
from remedies.lab import registry
from remedies.lab.scenarios import udp_reply_source
from remedies.lab.world import Options, World

registry.FOLDER = sys.argv[1]
with World("udp-reply-source", Options()) as world:
    udp_reply_source.build(world)
    print(world.id, flush=True)
    signal.pause()
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep markers where no other run of the lab sweeps, and sweep nobody else's."""
    monkeypatch.setattr(registry, "FOLDER", str(tmp_path / "lab"))


def traces(world: str) -> list[str]:
    """Return whatever is left of a world."""
    left = [name for name in os.listdir(RUN_DIR) if name.startswith(f"rl-{world}-")]
    left += [f"process {pid}" for pid in residents(registry.processes(world))]
    return left + [name for name in os.listdir(registry.FOLDER) if name.startswith(world)]


def ended(pid: int) -> bool:
    """Tell whether a process is gone, or waits only for its parent to hear of it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def owner() -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """Give a process that holds a world, the world's id, and the id of a process inside it."""
    child = subprocess.Popen(
        [sys.executable, "-c", OWNER, registry.FOLDER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        assert select.select([child.stdout], [], [], 60)[0]
        world = child.stdout.readline().strip()
        (inside,) = residents(registry.processes(world))
        yield child, world, inside
    finally:
        child.kill()
        child.communicate()
        registry.sweep(kept=True, only=world)


def test_world_is_removed_after_a_normal_end() -> None:
    with World("none", Options()) as world:
        assert len(traces(world.id)) == 5
    assert traces(world.id) == []


def test_world_is_removed_after_an_exception() -> None:
    world = World("udp-reply-source", Options())

    def build_and_fail() -> None:
        with world:
            udp_reply_source.build(world)
            assert len(residents(registry.processes(world.id))) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build_and_fail()
    assert traces(world.id) == []


def test_world_is_removed_when_building_it_fails() -> None:
    world = World("none", Options())
    with pytest.raises(RemedyError, match="no such thing"), world:
        world.run("host", ["sh", "-c", "echo no such thing >&2; exit 1"])
    assert traces(world.id) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_world_is_removed_after_a_signal(
    owner: tuple[subprocess.Popen[str], str, int], number: signal.Signals
) -> None:
    child, world, inside = owner
    child.send_signal(number)
    assert child.wait(60) in (128 + number, -number)
    assert traces(world) == []
    assert ended(inside)


def test_killed_owner_leaves_a_world_that_the_next_sweep_removes(
    owner: tuple[subprocess.Popen[str], str, int],
) -> None:
    child, world, inside = owner
    child.kill()
    child.wait(60)
    assert len(traces(world)) == 6
    assert world in [marker.id for marker in registry.sweep()]
    assert traces(world) == []
    assert ended(inside)


def test_sweep_leaves_a_living_owner_alone(
    owner: tuple[subprocess.Popen[str], str, int],
) -> None:
    _, world, _ = owner
    assert world not in [marker.id for marker in registry.sweep(kept=True)]
    assert len(traces(world)) == 6


def test_world_left_up_stays_until_it_is_taken_down() -> None:
    world, look = up("udp-reply-source", Options())
    try:
        assert look
        assert world.id not in [marker.id for marker in registry.sweep()]
        marker = registry.find(world.id)
        assert marker.up
        assert not udp_reply_source.traffic(World.standing(marker)).alive
    finally:
        removed = registry.sweep(kept=True, only=world.id)
        world.stop_all()
    assert [marker.id for marker in removed] == [world.id]
    assert traces(world.id) == []
    with pytest.raises(UsageError, match="no world has the id"):
        registry.find(world.id)
