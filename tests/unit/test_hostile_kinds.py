"""Files of every kind where a plan, a policy or facts should be, and the ways that lead to them."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from as_root import needs_root

from remedies.cli import main
from remedies.errors import NotPermitted
from remedies.transaction import state

pytestmark = needs_root
NOBODY = 65534


def fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def device(path: Path) -> None:
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero: without an end


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: no block of the disk is used


def folder(path: Path) -> None:
    path.mkdir()


def socket_(path: Path) -> None:
    os.mknod(path, 0o600 | stat.S_IFSOCK)


def proc(path: Path) -> None:
    path.symlink_to("/proc/self/mem")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


class Hung(BaseException):
    """Not an Exception: nothing may take it for an error of the file."""


@contextlib.contextmanager
def hanging_fails() -> Iterator[None]:
    def late(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("make", [fifo, device, huge, folder, socket_, proc, loop])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--state-dir", "{}.state", "apply", "{}", "--yes"), 65),
        (("export", "ansible", "{}", "-o", "{}.out"), 65),
        (("scan", "--facts", "{}"), 65),
        (("plan", "--policy", "{}", "--window", "0"), 78),
    ],
    ids=["plan", "export", "facts", "policy"],
)
def test_what_is_no_file_is_refused_in_one_line_and_no_time(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
    words: tuple[str, ...],
    code: int,
) -> None:
    path = tmp_path / "x.json"
    make(path)
    with hanging_fails():
        ended = main([word.format(path) for word in words])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended == code, line
    assert "x.json" in line
    assert not (tmp_path / "x.json.out").exists()


@pytest.mark.parametrize("mode", [0o602, 0o620])
def test_a_plan_that_others_can_write_is_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    """The playbooks are orders that root of many hosts obeys."""
    path = tmp_path / "plan.json"
    path.write_text("{}")
    path.chmod(mode)
    assert main(["export", "ansible", str(path), "-o", str(tmp_path / "out")]) == 65
    assert "lets others write the plan" in capsys.readouterr().err


def test_a_link_of_roots_own_leads_to_what_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root's link is root's word; what counts is whose the file is that it leads to."""
    plan, link = tmp_path / "plan.json", tmp_path / "link"
    plan.write_text("{}")
    link.symlink_to(plan)
    assert main(["--state-dir", str(tmp_path / "state"), "apply", str(link), "-y"]) == 65
    assert "not a plan" in capsys.readouterr().err
    os.chown(plan, NOBODY, NOBODY)
    assert main(["--state-dir", str(tmp_path / "state"), "apply", str(link), "-y"]) == 65
    assert f"owned by user {NOBODY}" in capsys.readouterr().err


def test_a_plan_may_come_through_a_pipe(tmp_path: Path) -> None:
    command = f'"{sys.executable}" -m remedies --state-dir "$0" apply -y <(sleep 0.2; echo "{{}}")'
    argv = ["bash", "-c", command, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "not a plan" in done.stderr) == (65, True), done.stderr


@pytest.mark.parametrize("how", ["writable", "foreign"])
def test_a_folder_above_the_state_that_others_can_rename_in_is_refused(
    tmp_path: Path, how: str
) -> None:
    above = tmp_path / "above"
    above.mkdir()
    if how == "foreign":
        os.chown(above, NOBODY, NOBODY)
    else:
        above.chmod(0o777)
    with pytest.raises(NotPermitted, match="above"):
        state.prepare(str(above / "between" / "state"), "host")
    above.chmod(0o1777)
    os.chown(above, 0, 0)
    state.prepare(str(above / "between" / "state"), "host")
