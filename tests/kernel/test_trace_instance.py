"""The private tracing instance: gone however its maker ended, and nobody else's is touched."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from forked_cli import Piped
from waiting import eventually

from remedies.bpf import kernel
from remedies.namespaces.netns import inside
from remedies.trace import tracefs
from remedies.trace.reasons import Reasons

Make = Callable[..., str]


def instances() -> set[str]:
    """Return the names of the machine's tracing instances."""
    root = tracefs.root()
    try:
        directory = os.open("instances", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
        return set(tracefs._names(directory))
    finally:
        os.close(root)


def mounts() -> list[str]:
    """Return where tracefs is mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return [line for line in file if " - tracefs " in line]


@pytest.fixture
def traced(netns: Make) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Give ``start(seconds) -> child``: a trace of an empty namespace that has begun."""
    ns = netns("tr")
    children: list[subprocess.Popen[str]] = []

    def start(seconds: str = "30s") -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "remedies", "--netns", ns, "trace", "--for", seconds],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        assert child.stderr is not None
        assert "listening" in child.stderr.readline()
        return child

    yield start
    for child in children:
        if child.poll() is None:
            child.kill()
        child.communicate(timeout=60)


def test_it_is_gone_after_a_normal_end(traced: Callable[..., subprocess.Popen[str]]) -> None:
    before = mounts()
    child = traced("500ms")
    assert f"remedy-{child.pid}" in instances()
    assert mounts() == before
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert f"remedy-{child.pid}" not in instances()
    assert "nothing heard" in out
    assert "lost: 0 packets" in out
    assert "Next: 'remedy scan" in out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_is_gone_after_a_signal_and_the_summary_is_told(
    traced: Callable[..., subprocess.Popen[str]], number: signal.Signals, code: int
) -> None:
    child = traced()
    assert f"remedy-{child.pid}" in instances()
    child.send_signal(number)
    out, errors = child.communicate(timeout=60)
    assert child.returncode == code
    assert f"remedy-{child.pid}" not in instances()
    assert "nothing heard" in out
    assert errors == ""


def test_after_sigkill_the_next_run_removes_it_and_leaves_a_living_ones(
    traced: Callable[..., subprocess.Popen[str]],
) -> None:
    killed, living = traced(), traced()
    assert {f"remedy-{killed.pid}", f"remedy-{living.pid}"} <= instances()
    killed.kill()
    killed.wait(60)
    traced("0s").communicate(timeout=60)
    left = instances()
    assert f"remedy-{killed.pid}" not in left
    assert f"remedy-{living.pid}" in left


def test_nothing_is_left_of_traces_that_are_killed_at_any_moment(
    netns: Make, tmp_path: Path
) -> None:
    ns, killed, attached = netns("kill"), [], 0
    words = ["--netns", ns, "--state-dir", str(tmp_path / "state"), "trace"]
    for number in range(20):
        with Piped([*words, "--for", "60s"], env=os.environ) as child:
            if number == 0:
                assert b"listening" in child.stderr.readline()
            else:  # where it is then differs: before, between or after what it makes
                select.select([], [], [], 0.004 * number)
            found = programs(child.pid)
            child.kill()
        killed.append(child.pid)
        attached += len(found)
        eventually(partial(none_is_loaded, found), 20, "program is gone")
    assert attached > 0
    with Piped([*words, "--for", "0s"], env=os.environ) as child:
        assert child.wait(60) == 0
    assert instances() & {f"remedy-{pid}" for pid in killed} == set()


def test_it_is_gone_after_a_test_that_fails(netns: Make, tmp_path: Path) -> None:
    words = ["--netns", netns("fails"), "--state-dir", str(tmp_path / "state"), "trace"]

    def fail() -> None:
        assert b"listening" in child.stderr.readline()
        raise AssertionError

    with (
        pytest.raises(AssertionError),
        Piped([*words, "--for", "60s"], env=os.environ) as child,
    ):
        fail()
    assert child.returncode == 141, "its summary has no reader"
    assert f"remedy-{child.pid}" not in instances()


def none_is_loaded(programs: list[int]) -> bool:
    """Tell whether the kernel has none of these programs any more."""
    return not any(map(is_loaded, programs))


def programs(pid: int) -> list[int]:
    """Return the numbers of the programs that a process has attached."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            with open(f"/proc/{pid}/fdinfo/{name}", encoding="ascii") as file:
                told = dict(line.split(":", 1) for line in file if ":" in line)
        except FileNotFoundError:  # closed meanwhile
            continue
        if told.get("link_type", "").strip() == "raw_tracepoint":
            found.append(int(told["prog_id"]))
    return found


def is_loaded(program: int) -> bool:
    """Tell whether a program is loaded (BPF_PROG_GET_FD_BY_ID)."""
    try:
        os.close(kernel._call(13, kernel._buffer(struct.pack("=III", program, 0, 0))))
    except FileNotFoundError:
        return False
    return True


def test_one_whose_pid_means_another_process_by_now_is_removed() -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        root = tracefs.root()
        try:
            os.mkdir(f"instances/remedy-{stranger.pid}", dir_fd=root)
            os.mkdir(f"instances/other-{stranger.pid}", dir_fd=root)
            tracefs.sweep(root)
            assert f"remedy-{stranger.pid}" not in instances()
            assert f"other-{stranger.pid}" in instances()
        finally:
            os.rmdir(f"instances/other-{stranger.pid}", dir_fd=root)
            os.close(root)
            stranger.kill()


def swept_again_and_again(barrier: Barrier, name: str, rounds: int) -> None:
    """Sweep at the same moment as others do, what one of them has made."""
    root = tracefs.root()
    for _ in range(rounds):
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"instances/{name}", dir_fd=root)
        barrier.wait(30)
        tracefs.sweep(root)
        barrier.wait(30)


def test_runs_that_remove_the_same_leftover_at_once_all_go_on() -> None:
    """The kernel tells the slower one that there is no such device: the race is real each time."""
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(3)
    nobody = f"remedy-{1 << 30}"  # above every pid
    runs = [
        fork.Process(target=swept_again_and_again, args=(barrier, nobody, 50)) for _ in range(3)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0, 0]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV])
def test_one_that_is_removed_before_it_is_held_is_made_again(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A run in another process namespace takes this one's maker for dead, and its instance."""
    opened, opens = tracefs.Instance.open, []

    def swept(self: tracefs.Instance, path: str, flags: int) -> int:
        assert self._root is not None
        opens.append(path)
        if len(opens) == 1:
            tracefs._remove(self._root, self.name)
            raise OSError(number, "as the kernel says, one or the other")
        descriptor = opened(self, path, flags)
        tracefs._remove(self._root, self.name)  # now it is held
        return descriptor

    monkeypatch.setattr(tracefs.Instance, "open", swept)
    reasons = Reasons()
    try:
        reasons.begin()
        assert reasons.source.startswith("tracefs: ")
        assert opens[:2] == ["trace_pipe", "trace_pipe"]
    finally:
        reasons.close()


def test_a_kernel_without_reasons_for_resets_counts_the_machines_drops(
    netns: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reasons, "_choose", Reasons.count_drops)
    reasons = Reasons()
    try:
        reasons.begin()
        assert reasons.source == "tracefs: kfree_skb, of the whole machine"
        with inside(netns("drop")), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"x", ("127.0.0.1", 9))
        reasons.read()
        assert reasons.drops is not None
        assert reasons.drops >= 1
        assert not reasons.complete()
    finally:
        reasons.close()
    assert f"remedy-{os.getpid()}" not in instances()
