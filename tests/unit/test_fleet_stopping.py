"""A signal while Ansible runs: it ends what was started, then does what it does anywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from remedies.errors import Locked
from remedies.fleet import controller
from remedies.fleet.stopping import stopping

PLAY = """
import os, subprocess, sys, time
# As Ansible: a worker in a session of its own, and the ssh it started.
worker = subprocess.Popen(
    [sys.executable, "-c", '''
import os, subprocess, sys
os.setsid()
ssh = subprocess.Popen(["{folder}/ssh", "60"])
other = subprocess.Popen(["{folder}/local", "60"])
print(os.getpid(), ssh.pid, other.pid, flush=True)
ssh.wait()
'''])
worker.wait()
"""


def started(tmp_path: Path) -> tuple[subprocess.Popen[str], list[int], int]:
    """Start what looks like Ansible; return it, what has to end with it, and what must not."""
    for name in ("ssh", "local"):
        if not (tmp_path / name).exists():
            (tmp_path / name).symlink_to("/bin/sleep")
    play = subprocess.Popen(
        [sys.executable, "-c", PLAY.format(folder=tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert play.stdout is not None
    with play.stdout:
        worker, ssh, local = map(int, play.stdout.readline().split())
    return play, [worker, ssh], local


def lives(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_ansible_and_is_raised_after_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    """A command of the host itself, which descends from Ansible over a local connection, stays."""
    before: list[int] = []

    def handler(came: int, _frame: object) -> None:
        before.append(came)
        raise KeyboardInterrupt

    previous = signal.signal(number, handler)
    other = subprocess.Popen(["/bin/sleep", "60"])
    local, codes, family = 0, [], list[int]()

    def run() -> None:
        nonlocal local, family
        with stopping():
            play, family, local = started(tmp_path)
            os.kill(os.getpid(), number)
            codes.append(play.wait(timeout=60))
            before.append(0)  # the play's own code goes on until it finds its end

    try:
        with pytest.raises(KeyboardInterrupt):
            run()
        assert before == [0, number]
        assert codes == [-signal.SIGKILL]
        assert not any(map(lives, family))
        assert [lives(local), lives(other.pid)] == [True, True]
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, previous)
        other.kill()
        other.wait()
        if local:
            os.kill(local, signal.SIGKILL)


def test_a_signal_before_ansible_is_there_or_when_it_has_gone_is_raised_at_once() -> None:
    went_on = []

    def run(play: list[str]) -> None:
        with stopping():
            for program in play:
                subprocess.run([program], check=True)
            os.kill(os.getpid(), signal.SIGINT)
            went_on.append(play)

    for play in ([], ["/bin/true"]):
        with pytest.raises(KeyboardInterrupt):
            run(play)
    assert went_on == []


def test_an_error_ends_ansible_too(tmp_path: Path) -> None:
    plays = []

    def run() -> None:
        with stopping():
            plays.append(started(tmp_path))
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        run()
    ((play, family, local),) = plays
    os.kill(local, signal.SIGKILL)
    assert play.wait(timeout=60) == -signal.SIGKILL
    assert not any(map(lives, family))


def test_who_leads_a_run_is_known_by_more_than_a_number() -> None:
    assert controller.leads("")
    assert controller.leads(controller.this())
    pid, _, started_at = controller.this().partition(" ")
    assert not controller.leads(f"{pid} {int(started_at) - 1}")
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    for name in (f"{ended.pid} 1", "x 1", pid, f"{pid} "):
        assert not controller.leads(name), name


def test_a_run_has_one_leader(tmp_path: Path) -> None:
    with (
        controller.leading(str(tmp_path)),
        pytest.raises(Locked, match=f"process {os.getpid()} is leading this run"),
        controller.leading(str(tmp_path)),
    ):
        pytest.fail("two lead it")
    with controller.leading(str(tmp_path)):
        assert (tmp_path / "lock").read_text() == controller.this()
