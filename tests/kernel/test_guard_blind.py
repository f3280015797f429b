"""A guard whose journal is lost, damaged or cannot be written: it undoes in time, and says so."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from damages import (
    ALL,
    Damage,
    emptied,
    mounted,
    moved,
    removed,
    replaced,
    unlinked,
    unmounted,
)
from faulty import Fault, Host
from waiting import eventually


def guards_of(host: Host) -> list[int]:
    """Return the guards of a host that live, wherever their FIFO and their namespace are now."""
    found, armed = [], host.folder / "guards"
    for pid in map(int, armed.read_text().split() if armed.exists() else ()):
        with contextlib.suppress(OSError):  # it has ended
            if Path(f"/proc/{pid}/comm").read_text() == "remedy-guard\n":
                found.append(pid)
    return found


def alone(host: Host, seconds: float = 20.0) -> None:
    """Wait until no guard of this host is there."""
    eventually(lambda: not guards_of(host), seconds, "a guard is at work still")


@pytest.mark.parametrize("damage", ALL, ids=lambda d: d.__name__)
def test_what_nobody_confirms_is_undone_in_time(
    netns: Callable[..., str], tmp_path: Path, damage: Damage
) -> None:
    with mounted(Host(netns("blind"), tmp_path).prepare()) as host:
        before, start = host.dump(), time.monotonic()
        done = host.run("apply", "--yes", "--confirm-timeout", "3s")
        assert done.code == 0, done.out
        assert host.dump() != before
        damage(host.state)
        alone(host)
        assert time.monotonic() - start >= 3
        assert host.dump() == before


@pytest.mark.parametrize("damage", [removed, unlinked, moved, unmounted, emptied, replaced])
def test_what_the_journal_has_lost_cannot_be_confirmed_and_is_said(
    netns: Callable[..., str], tmp_path: Path, damage: Damage
) -> None:
    with mounted(Host(netns("blind"), tmp_path).prepare()) as host:
        before = host.dump()
        words = ("apply", "--yes", "--json", "--confirm-timeout", "60s")
        name = host.run(*words).json["transaction"]
        damage(host.state)
        status = host.run("status", "--json")
        assert (status.code, status.json["unfinished"]) == (2, [name]), status.out
        assert "it is not in this journal" in host.run("status").out
        late = host.run("confirm")
        assert late.code == 1, late.out
        assert f"transaction {name} is not in this journal and cannot be confirmed" in late.out
        (pid,) = guards_of(host)
        os.kill(pid, signal.SIGTERM)  # as that message says
        alone(host)
        assert host.dump() == before
        assert host.run("status").code == 0


def test_a_caller_that_waits_hears_how_it_ended_from_the_guard_itself(
    netns: Callable[..., str], tmp_path: Path
) -> None:
    host = Host(netns("blind"), tmp_path).prepare()
    before = host.dump()
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(host.run, "apply", "--yes", "--wait", "--confirm-timeout", "2s")
        eventually(lambda: bool(guards_of(host)) and host.dump() != before, 20, "not applied")
        shutil.rmtree(host.state.parent)
        done = waits.result()
    assert (done.code, "Not confirmed, and reverted" in done.out) == (7, True), done.out
    assert host.dump() == before


@pytest.fixture(scope="module")
def last_write(
    module_netns: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], int]:
    """Give the number of the point after the last write of rules by a backend."""

    @functools.cache
    def number(backend: str) -> int:
        host = Host(module_netns("blind"), tmp_path_factory.mktemp("whole"), backend).prepare()
        done = host.run("apply", "--yes")
        assert done.code == 0, done.out
        rules = ("after write nft:", "after write iptables:", "after write ip6tables:")
        return max(n for n, name in enumerate(done.points) if name.startswith(rules))

    return number


@pytest.mark.parametrize(
    ("backend", "damage"),
    # What a guard still knows does not depend on who wrote; that it can undo it there, does.
    [*(("nftables", damage) for damage in ALL), ("iptables-nft", removed)],
    ids=lambda given: getattr(given, "__name__", given),
)
def test_what_a_dead_writer_left_is_undone(
    netns: Callable[..., str],
    tmp_path: Path,
    last_write: Callable[[str], int],
    backend: str,
    damage: Damage,
) -> None:
    """Killed after its last write of rules, which no record calls written."""
    with mounted(Host(netns("blind"), tmp_path, backend).prepare()) as host:
        before = host.dump()
        fault = Fault(last_write(backend), deed=functools.partial(damage, host.state))
        assert host.run("apply", "--yes", fault=fault).code == -signal.SIGKILL
        alone(host)
        assert host.dump() == before


@pytest.mark.parametrize("damage", ALL, ids=lambda d: d.__name__)
def test_what_was_confirmed_stays(
    netns: Callable[..., str], tmp_path: Path, damage: Damage
) -> None:
    with mounted(Host(netns("blind"), tmp_path).prepare()) as host:
        assert host.run("apply", "--yes", "--confirm-timeout", "30s").code == 0
        assert host.run("confirm").code == 0
        assert not list(host.state.glob("guard-*"))  # it has heard of it
        kept = host.dump()
        damage(host.state)
        alone(host)
        assert host.dump() == kept
