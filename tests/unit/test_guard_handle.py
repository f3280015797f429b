"""The guard's process and its FIFO: alive, nudged, dismissed, swept up after."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from remedies.errors import WriteFailed
from remedies.transaction import guard
from remedies.transaction.ledger import Begin

BEGIN = Begin("apply", (), "0", "h", "m", "b", "root", "remedy apply")


def test_it_lives_until_it_is_dismissed_and_leaves_nothing(tmp_path: Path) -> None:
    folder = str(tmp_path)
    armed = guard.arm(folder, "t", BEGIN)
    assert guard.alive(folder, "t")
    guard.nudge(folder, "t")
    assert guard.alive(folder, "t")
    armed.dismiss()
    assert not guard.alive(folder, "t")
    assert os.listdir(folder) == ["lock"]


def test_it_is_no_part_of_our_session(tmp_path: Path) -> None:
    armed = guard.arm(str(tmp_path), "t", BEGIN)
    try:
        pid = armed._pid
        assert os.getsid(pid) == pid
        assert os.getpgid(pid) == pid
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        links = {os.readlink(f"/proc/{pid}/fd/{n}") for n in ("0", "1", "2")}
        assert links == {"/dev/null"}
        assert len(os.listdir(f"/proc/{pid}/fd")) <= 7
        os.kill(pid, signal.SIGHUP)
        os.kill(pid, signal.SIGINT)
        assert guard.alive(str(tmp_path), "t")
    finally:
        armed.dismiss()


def test_what_a_killed_one_leaves_is_swept_up(tmp_path: Path) -> None:
    folder = str(tmp_path)
    living, dead = guard.arm(folder, "living", BEGIN), guard.arm(folder, "dead", BEGIN)
    try:
        os.kill(dead._pid, signal.SIGKILL)
        os.waitpid(dead._pid, 0)
        guard.sweep(folder)
        assert sorted(os.listdir(folder)) == ["guard-living", "lock"]
    finally:
        living.dismiss()
        dead._lifeline.close()


def test_without_a_guard_nothing_is_begun(tmp_path: Path) -> None:
    with pytest.raises(WriteFailed, match="no guard could be started"):
        guard.arm(str(tmp_path / "missing"), "t", BEGIN)
