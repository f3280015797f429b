"""Markers of worlds that other runs take away between one look and the next."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from remedies.lab import registry
from remedies.lab.registry import Marker


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the markers of this test, and the names of its namespaces, in folders of its own."""
    monkeypatch.setattr(registry, "FOLDER", str(tmp_path))
    monkeypatch.setattr(registry, "RUN_DIR", str(tmp_path / ".netns"))
    return tmp_path


def made(world: str) -> Marker:
    """Write the marker of a world that nobody owns."""
    marker = Marker(world, "udp-reply-source", "nft", 4, healthy=False)
    descriptor = os.open(marker.path, os.O_RDWR | os.O_CREAT)
    registry.write(marker, descriptor)
    os.close(descriptor)
    return marker


def test_markers_are_listed_oldest_first_without_one_that_has_gone(folder: Path) -> None:
    late, early = made("aaaa"), made("bbbb")
    os.utime(early.path, ns=(0, 1))
    (folder / "cccc").symlink_to("nothing")  # listed by the folder, gone when it is opened
    assert registry.worlds() == (early, late)


def test_a_new_world_takes_no_id_of_one_that_stands(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor of one whose marker another lab keeps elsewhere: to take this away would end that."""
    made("aaaa")
    (folder / ".netns").mkdir()
    (folder / ".netns" / registry.namespace("bbbb", "server")).touch()
    ids = iter(("aaaa", "bbbb", "cccc"))
    monkeypatch.setattr("secrets.token_hex", lambda _: next(ids))
    marker, descriptor = registry.create("udp-reply-source", "nft", 4, healthy=False)
    os.close(descriptor)
    assert marker.id == "cccc"


def test_marker_that_was_only_begun_belongs_to_no_scenario(folder: Path) -> None:
    (folder / "dddd").touch()
    (marker,) = registry.worlds()
    assert (marker.id, marker.scenario) == ("dddd", "?")


def test_sweep_passes_over_a_world_that_its_owner_takes_away_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone, left = made("aaaa"), made("bbbb")
    os.unlink(gone.path)
    monkeypatch.setattr(registry, "worlds", lambda: (gone, left))
    assert registry.sweep() == (left,)
    assert os.listdir(registry.FOLDER) == [".lock"]


def test_sweep_does_not_remove_a_marker_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = made("aaaa")
    lock = fcntl.flock

    def once_it_is_gone(file: int, operation: int) -> None:
        if operation & fcntl.LOCK_NB:
            os.unlink(gone.path)  # its owner ends between the look and the lock
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", once_it_is_gone)
    assert registry.sweep() == ()


def test_who_has_ended_counts_though_the_time_is_over() -> None:
    """As for a lab that gets no processor for as long as a process of a world may take."""
    with subprocess.Popen(["true"]) as child:
        handle = os.pidfd_open(child.pid)
    try:
        alive = {handle}
        registry._await_end(alive, 0.0)
        assert alive == set()
    finally:
        os.close(handle)
