"""Who holds a lock, and whose guard is at work: processes, known by what they have open."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from remedies.errors import Locked
from remedies.transaction import guard, lock, lock_holder

GUARD = """
import ctypes
flags = 0x40000000 | (0 if os.geteuid() == 0 else 0x10000000)  # CLONE_NEWNET, CLONE_NEWUSER
assert ctypes.CDLL(None, use_errno=True).unshare(flags) == 0, os.strerror(ctypes.get_errno())
open("/proc/self/comm", "w").write("remedy-guard")
held = os.open(sys.argv[1], os.O_RDWR)
"""
HOLDER = "held = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(held, fcntl.LOCK_EX)"
NAMES_IT = "held = os.open(sys.argv[1], os.O_PATH)"


@contextmanager
def process(code: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the code in a process of its own, which ends with the block."""
    whole = f"import fcntl, os, sys\n{code}\nprint(flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", whole, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as made:
        assert made.stdin is not None
        assert made.stdout is not None
        assert made.stdout.readline() == b"\n"
        yield made
        made.stdin.close()


def test_the_holder_of_a_lock_is_killed_and_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    mine = os.open(path, os.O_RDWR)
    try:
        with process(NAMES_IT, path) as other, process(HOLDER, path) as holder:
            assert lock_holder.end(mine) == (holder.pid,)
            assert holder.wait() == -9
            assert other.poll() is None
            fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert lock_holder.end(mine) == ()
    finally:
        os.close(mine)


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_who_holds_the_lock_is_named(tmp_path: Path, timeout: float) -> None:
    path = tmp_path / lock.NAME
    path.write_text('{"pid": 7, "command": "remedy apply", "user": "ann", "since": "today"}')
    with process(HOLDER, path):
        with pytest.raises(Locked, match=r"pid 7, 'remedy apply', user ann, since today") as seen:
            lock.held(str(tmp_path), timeout).__enter__()
        assert "--lock-timeout" in seen.value.hint
        path.write_text("not yet")
        with pytest.raises(Locked, match="another remedy"):
            lock.held(str(tmp_path), timeout).__enter__()


def test_what_has_ended_holds_nothing() -> None:
    with process("", Path("x")) as ended:
        pass
    assert not lock_holder._has_open(str(ended.pid), (0, 0))


def test_a_guard_is_found_by_its_fifo_unless_its_transaction_is_open_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a namespace of its own: who looks for guards of this one meanwhile finds none of ours."""
    path, same = tmp_path / "guard-t9", os.path.samefile
    os.mkfifo(path)
    with process(GUARD, path) as of, process(GUARD.replace("-guard", "-other"), path):

        def found(*open_here: str) -> list[guard.Stray]:
            return [s for s in guard.strays(open_here) if s.folder == str(tmp_path)]

        assert found() == []
        monkeypatch.setattr(os.path, "samefile", lambda one, _: same(one, f"/proc/{of.pid}/ns/net"))
        assert found() == [guard.Stray(of.pid, "t9", str(tmp_path))]
        assert found("t9") == []
        path.unlink()
        assert found("t8") == [guard.Stray(of.pid, "t9", str(tmp_path))]
