"""The confirm timer fires whatever becomes of the caller: a real sshd, a real login session.

Four ways to lose the caller, five rounds of each: the change itself cuts the caller's SSH; the
client vanishes; its session is killed with everything in it; it is logged out.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from box import REMEDY, Box, start

ROUNDS = range(5)
NAT = """\
table ip theirs {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "eth9" masquerade
    }
}
"""
COMMAND = "echo ready $XDG_SESSION_ID; read go; exec {remedy} --policy /etc/test-policy.json \
--plain apply --yes --window 0 {flags}"
TIMER = "--confirm-timeout 1s --wait"


@pytest.fixture(scope="module")
def box(debian: Path) -> Iterator[Box]:
    made = start(debian)
    try:
        made.policy("invalid-drop")
        made.run("mkdir", "-m", "700", "-p", "/root/.ssh")
        made.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        made.run("cp", "/root/.ssh/id_ed25519.pub", "/root/.ssh/authorized_keys")
        made.write("/root/.ssh/config", "StrictHostKeyChecking no\nLogLevel ERROR\n")
        yield made
    finally:
        made.machine.close()


class Caller:
    """Somebody logged in over SSH, about to apply."""

    def __init__(self, box: Box, flags: str) -> None:
        command = COMMAND.format(remedy=" ".join(REMEDY), flags=flags)
        self.ssh = subprocess.Popen(
            box.machine.argv("ssh", "-tt", "root@127.0.0.1", command),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self.ssh.stdout is not None
        word, self.session = self.ssh.stdout.readline().split()
        assert word == "ready"

    def go(self) -> None:
        assert self.ssh.stdin is not None
        self.ssh.stdin.write("go\n")
        self.ssh.stdin.flush()


Login = Callable[..., Caller]


@pytest.fixture
def login(box: Box) -> Iterator[Login]:
    made: list[Caller] = []

    def log_in(flags: str = TIMER) -> Caller:
        made.append(Caller(box, flags))
        return made[-1]

    yield log_in
    for caller in made:
        caller.ssh.kill()
        caller.ssh.communicate(timeout=20)


def in_force(box: Box) -> bool:
    return "table inet remedy_invalid_drop" in box.run("nft", "list", "tables")


def becomes(box: Box, wanted: bool, seconds: float) -> bool:
    """Look again and again (each look takes a program's start) until it is so."""
    end = time.monotonic() + seconds
    while in_force(box) is not wanted:
        if time.monotonic() > end:
            return False
    return True


def cuts(box: Box) -> bool:
    """Tell whether our rule drops a segment while it is in force."""
    while True:
        table = box.run("nft", "list", "table", "inet", "remedy_invalid_drop", code=None)
        if not table or any(n != "0" for n in re.findall(r"packets (\d+)", table)):
            return bool(table)


def is_settled(box: Box) -> None:
    assert becomes(box, wanted=False, seconds=10)
    status = box.json("status")
    assert (status["in_force"], status["unfinished"]) == ([], [])


@pytest.fixture
def nat(box: Box) -> Iterator[Callable[[], None]]:
    """Give what makes conntrack track, from then on and not before."""

    def track() -> None:
        box.run("nft", "-f", "-", stdin=NAT)
        box.run("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0")

    yield track
    box.run("nft", "delete", "table", "ip", "theirs")


@pytest.mark.parametrize("number", ROUNDS)
def test_a_change_that_cuts_its_own_caller_is_undone(
    box: Box, login: Login, nat: Callable[[], None], number: int
) -> None:
    """The session is older than conntrack, which picks nothing up: its segments are INVALID."""
    caller = login()
    nat()
    caller.go()
    assert becomes(box, wanted=True, seconds=20)
    caller.go()  # something for the rule to drop
    assert cuts(box)
    is_settled(box)
    # The caller never knew: its connection lives on and brings it the end.
    assert caller.ssh.wait(timeout=20) == 7


def test_yes_alone_is_not_enough_for_what_cuts_the_caller_off(
    box: Box, login: Login, nat: Callable[[], None]
) -> None:
    caller = login("")
    nat()
    caller.go()
    said, _ = caller.ssh.communicate(timeout=30)
    assert caller.ssh.returncode == 64
    assert "this can cut you off" in said
    assert "--confirm-timeout" in said
    name = box.run("hostname").strip()
    assert f"--confirm={name}" in said
    assert not in_force(box)
    caller = login("--confirm=another")
    caller.go()
    assert caller.ssh.wait(timeout=30) == 64
    assert not in_force(box)


def test_the_hosts_name_says_that_it_is_meant(
    box: Box, login: Login, nat: Callable[[], None]
) -> None:
    caller = login(f"--confirm={box.run('hostname').strip()}")
    nat()
    caller.go()
    assert becomes(box, wanted=True, seconds=20)
    caller.go()  # something for the rule to drop
    assert cuts(box)
    assert box.json("status")["pending_confirm"] is None
    assert box.json("rollback", "--yes")["outcome"] == "rolled-back"
    assert caller.ssh.wait(timeout=20) == 0


def vanish(box: Box, caller: Caller) -> None:
    caller.ssh.send_signal(signal.SIGKILL)


def kill(box: Box, caller: Caller) -> None:
    box.run("systemctl", "kill", "--signal=KILL", f"session-{caller.session}.scope")


def log_out(box: Box, caller: Caller) -> None:
    box.run("loginctl", "terminate-session", caller.session)


@pytest.mark.parametrize("lose", [vanish, kill, log_out])
@pytest.mark.parametrize("number", ROUNDS)
def test_losing_the_caller_does_not_stop_the_timer(
    box: Box,
    login: Login,
    nat: Callable[[], None],
    lose: Callable[[Box, Caller], None],
    number: int,
) -> None:
    nat()
    caller = login()
    caller.go()
    assert becomes(box, wanted=True, seconds=20)
    lose(box, caller)
    is_settled(box)
    assert caller.ssh.wait(timeout=20) not in (0, 7)
