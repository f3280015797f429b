"""The guard's process and its FIFO: alive, nudged, dismissed, swept up after."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import termios
import threading
from pathlib import Path

import pytest

from remedies import codec
from remedies.errors import WriteFailed
from remedies.transaction import guard, guarded, ledger, watch
from remedies.transaction.journal import NAME, Journal, records
from remedies.transaction.ledger import Begin, Pending

BEGIN = Begin("apply", (), "0", "h", "m", "b", "root", "remedy apply")


def test_it_lives_until_it_is_dismissed_and_leaves_nothing(tmp_path: Path) -> None:
    folder = str(tmp_path)
    armed = guard.arm(folder, "t", BEGIN)
    assert guarded.alive(folder, "t")
    guarded.wake(folder, "t")
    assert guarded.alive(folder, "t")
    armed.dismiss()
    assert not guarded.alive(folder, "t")
    assert os.listdir(folder) == ["lock"]


def test_a_word_wakes_it_and_a_question_does_not(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert not guarded.alive(folder, "t")
    guarded.wake(folder, "t")  # nobody is there to be woken
    os.mkfifo(guarded.fifo(folder, "t"))
    assert not guarded.alive(folder, "t")
    reader = os.open(guarded.fifo(folder, "t"), os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert guarded.alive(folder, "t")
        assert os.read(reader, 9) == b""
        guarded.wake(folder, "t")
        guarded.wake(folder, "t")
        assert os.read(reader, 9) == b"\n\n"
        writer = os.open(guarded.fifo(folder, "t"), os.O_WRONLY | os.O_NONBLOCK)
        with open(writer, "wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        guarded.wake(folder, "t")  # full: it looks anyway
    finally:
        os.close(reader)


def test_its_end_is_awaited(tmp_path: Path) -> None:
    folder = str(tmp_path)
    guarded.wake(folder, "t", 60.0)  # none is there
    os.mkfifo(guarded.fifo(folder, "t"))
    reader = os.open(guarded.fifo(folder, "t"), os.O_RDONLY | os.O_NONBLOCK)
    guarded.wake(folder, "t", 0.0)
    assert guarded.alive(folder, "t")
    waits = threading.Thread(target=guarded.wake, args=(folder, "t", 60.0))
    waits.start()
    os.close(reader)
    waits.join(30)
    assert not waits.is_alive()


def test_one_that_ends_while_it_is_woken_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path)
    os.mkfifo(guarded.fifo(folder, "t"))
    reader, write = os.open(guarded.fifo(folder, "t"), os.O_RDONLY | os.O_NONBLOCK), os.write

    def late(descriptor: int, word: bytes) -> int:
        os.close(reader)
        return write(descriptor, word)

    monkeypatch.setattr(os, "write", late)
    guarded.wake(folder, "t", 60.0)


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
        assert guarded.alive(str(tmp_path), "t")
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


def unread(armed: guard.Guard) -> int:
    """Return the bytes that the guard has not read yet (SIOCOUTQ, unix(7))."""
    return int.from_bytes(fcntl.ioctl(armed, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_deadline_that_passed_in_a_suspend_is_seen_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CLOCK_BOOTTIME jumps while poll(2) counts CLOCK_MONOTONIC on: the jump is this test's own,
    for no machine is suspended here; that the kernel counts a suspend is clock_gettime(2)'s word.
    """
    folder, slept, clock = str(tmp_path), tmp_path / "slept", guarded.clock
    monkeypatch.setattr(guarded, "clock", lambda: clock() + 3600 * slept.exists())
    with Journal(folder) as journal:
        armed = guard.arm(folder, "t", BEGIN)
        journal.append("begin", "t", BEGIN.plain())
        armed.begun()
        pending = Pending("2026-01-01T00:00:00Z", clock() + 1800)
        journal.append("pending", "t", codec.encode(pending))
    armed.waits(pending)
    while unread(armed) or state(armed._pid) != "S":
        os.sched_yield()  # until it has taken that in and sleeps
    slept.touch()
    assert select.select([armed], [], [], 10 * watch.LOOK)[0], "it sleeps on"
    entry = armed.ended()
    armed.dismiss()
    assert entry is not None
    assert entry.outcome == "reverted"
    (told,) = ledger.transactions(records(str(tmp_path / NAME))).values()
    assert (told.outcome, told.reason) == ("reverted", "not confirmed in time")
