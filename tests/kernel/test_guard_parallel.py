"""Many at once: one writes, the others wait and find nothing to do, or give up and say for whom."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty import Host
from forked_cli import Forked
from waiting import eventually

from remedies.errors import Locked
from remedies.namespaces.netns import inside
from remedies.transaction import lock, lock_holder


def apply(host: Host, timeout: str) -> Forked:
    words = [
        "apply", "--yes", "--window", "0", "--state-dir", str(host.folder / "state"),
        "--policy", str(host.folder / "policy.yaml"), "--lock-timeout", timeout,
    ]  # fmt: skip
    with inside(host.ns):
        return Forked(words, env=os.environ)


def test_many_applies_at_once_are_one_transaction(
    netns: Callable[..., str], tmp_path: Path
) -> None:
    """Half of them wait for as long as it takes, half give up soon."""
    host = Host(netns("many"), tmp_path).prepare()
    running = [apply(host, ("600s", "300ms")[number % 2]) for number in range(8)]
    ended = []
    for one in running:
        with one:
            ended.append((one.communicate(60)[0], one.wait()))
    codes = [code for _, code in ended]
    assert set(codes) <= {0, 6}, ended
    assert codes[::2] == [0] * 4
    assert sum("Applied as transaction" in out for out, _ in ended) == 1
    assert sum("Nothing to do" in out for out, _ in ended) == codes.count(0) - 1
    for out, code in ended:
        if code == 6:
            assert re.search(r"another remedy is writing: pid \d+, '.*', user \S+, since \S+", out)
    (folder,) = (tmp_path / "state").glob("*-*")
    names = sorted(os.listdir(folder))
    assert names[:2] == ["journal.jsonl", "lock"]
    assert [n.partition("-")[0] for n in names[2:]] == ["undo"]
    assert (folder / "journal.jsonl").read_text().count('"kind":"begin"') == 1


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    code = (
        "import sys; from remedies.transaction import lock\n"
        f"with lock.held({str(tmp_path)!r}, 0): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Locked, match=f"pid {holder.pid},"), lock.held(str(tmp_path), 0.05):
            pass
        holder.send_signal(signal.SIGKILL)
        with lock.held(str(tmp_path), 5):
            pass


def test_the_lock_is_held_until_the_last_program_of_a_killed_writer_has_ended(
    tmp_path: Path,
) -> None:
    """What iptables-restore was told to do may still happen: nobody undoes it before it has."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    code = (
        "from remedies.transaction import lock; from remedies.resources import program\n"
        f"with lock.held({str(tmp_path)!r}, 0): program.run(['cat', {str(fifo)!r}])"
    )
    writer = subprocess.Popen([sys.executable, "-c", code])
    with open(fifo, "w"):  # opens once cat is there
        writer.kill()
        writer.wait()
        with pytest.raises(Locked), lock.held(str(tmp_path), 0.2):
            pass
    with lock.held(str(tmp_path), 5):
        pass
    eventually(lambda: writer.returncode == -signal.SIGKILL, 1, "not killed")


def test_who_sits_on_the_lock_is_ended_and_who_waits_for_it_is_not(tmp_path: Path) -> None:
    """The holder and its program, both stopped; not the one that waits for them."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    code = (
        "from remedies.transaction import lock; from remedies.resources import program\n"
        f"with lock.held({str(tmp_path)!r}, 0): program.run(['cat', {str(fifo)!r}])"
    )
    wait = (
        "from remedies.transaction import lock\n"
        f"with lock.held({str(tmp_path)!r}, None): print('held', flush=True)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code])
    with open(fifo, "w"):  # opens once cat is there
        (child,) = Path(f"/proc/{writer.pid}/task/{writer.pid}/children").read_text().split()
        waiter = subprocess.Popen([sys.executable, "-c", wait], stdout=subprocess.PIPE, text=True)
        inode = (tmp_path / lock.NAME).stat().st_ino
        eventually(lambda: waiter.pid in lock_holder._waiting(inode), 20, "it does not wait")
        for pid in (writer.pid, int(child)):
            os.kill(pid, signal.SIGSTOP)
        opened = lock.opened(str(tmp_path))
        assert set(lock_holder.end(opened)) == {writer.pid, int(child)}
        os.close(opened)
        said, _ = waiter.communicate(timeout=60)
    assert (writer.wait(), waiter.returncode, said) == (-signal.SIGKILL, 0, "held\n")
