"""The confirm timer fires whatever becomes of the caller: a real sshd, a real login session.

Five ways to lose the caller, two rounds of each: the change itself cuts the caller's SSH; the
client vanishes; its session is killed with everything in it; it is logged out; the machine is
restarted, in turn with and without being shut down first.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator

import pytest
from box import REMEDY, Box, start
from debian import Root
from waiting import eventually

from remedies.model import RequiredFix

ROUNDS = range(2)
WALL = """\
table ip wall {
    chain input {
        type filter hook prerouting priority mangle; policy accept;
        tcp sport 22 ct state untracked counter drop
    }
}
"""
"""A firewall that knows tracked connections alone: what is taken out of conntrack is cut.

In a chain that notrack's guard does not judge; in one for input it refuses."""
CUTS = RequiredFix(
    "notrack", {"protocol": "tcp", "ports": [22], "addresses": ["127.0.0.1"]}, "it cuts SSH"
)
TABLE = "remedy_notrack"
COMMAND = "echo ready $XDG_SESSION_ID; read go; exec {remedy} --policy /etc/test-policy.json \
--plain apply --yes --window 0 {flags}"
TIMER = "--confirm-timeout 4s --wait"
TIME_TO_LOOK = "--confirm-timeout 6s --wait"
WAITS_LONG = "--confirm-timeout 10m --wait"


@pytest.fixture(scope="module")
def box(debian: Root) -> Iterator[Box]:
    made = start(debian)
    try:
        made.policy(rules={}, require=(CUTS,))
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
        self.box, self._before = box, applied(box)
        command = COMMAND.format(remedy=" ".join(REMEDY), flags=flags)
        self.ssh = subprocess.Popen(
            box.machine.argv("ssh", "-tt", "root@127.0.0.1", command, among_its=False),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self.ssh.stdout is not None
        word, self.session = self.ssh.stdout.readline().split()
        assert word == "ready"

    def go(self) -> None:
        assert self.ssh.stdin is not None
        self.ssh.stdin.write("go\n")
        self.ssh.stdin.flush()

    def applies(self) -> None:
        """Wait until the journal says that all is written.

        The table alone says less: a batch that adds, deletes and adds it shows it to others from
        its first step on, also when the kernel was only asked whether it would take it.
        """
        eventually(lambda: applied(self.box) != self._before, 60, "nothing was applied")


def records(box: Box, *kinds: str) -> int:
    """Return how many records of these kinds the journal has, seen from outside the machine."""
    wanted = [f'"kind":"{kind}"' for kind in kinds]
    files = (box.machine.root / "var/lib/remedy/host").glob("journal*.jsonl")
    lines = [line for file in files for line in file.read_text().splitlines()]
    return sum(any(word in line for word in wanted) for line in lines)


def applied(box: Box) -> int:
    """Return how often something was applied: it waits, or it has ended."""
    return records(box, "pending", "end")


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
        caller.ssh.communicate(timeout=60)


def in_force(box: Box) -> bool:
    """Tell whether our table is there; while something is being written, that says nothing."""
    return f"table inet {TABLE}" in box.run("nft", "list", "tables")


def cuts(box: Box) -> bool:
    """Tell whether our rule drops a segment while it is in force."""
    table = ""

    def seen() -> bool:
        nonlocal table
        table = box.run("nft", "list", "table", "inet", TABLE, code=None)
        return not table or any(n != "0" for n in re.findall(r"packets (\d+)", table))

    eventually(seen, 60)
    return bool(table)


def is_settled(box: Box) -> None:
    """Wait until our table is gone and that is on record."""
    eventually(lambda: records(box, "end") >= records(box, "begin"), 60, "it has no end")
    eventually(lambda: not in_force(box), what="its end is on record, and the table is there")
    status = box.json("status")
    assert (status["in_force"], status["unfinished"]) == ([], [])


@pytest.fixture
def wall(box: Box) -> Iterator[Callable[[], None]]:
    """Give what puts the firewall up."""

    def up() -> None:
        box.run("nft", "-f", "-", stdin=WALL)

    yield up
    box.run("nft", "delete", "table", "ip", "wall", code=None)  # a reboot took it


@pytest.mark.parametrize("number", ROUNDS)
def test_a_change_that_cuts_its_own_caller_is_undone(
    box: Box, login: Login, wall: Callable[[], None], number: int
) -> None:
    """Its answers are no longer tracked, and the firewall drops what is not."""
    caller = login(TIME_TO_LOOK)
    wall()
    caller.go()
    caller.applies()
    assert cuts(box)
    is_settled(box)
    # The caller never knew: its connection lives on and brings it the end.
    assert caller.ssh.wait(timeout=60) == 7


def test_yes_alone_is_not_enough_for_what_cuts_the_caller_off(
    box: Box, login: Login, wall: Callable[[], None]
) -> None:
    caller = login("")
    wall()
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
    box: Box, login: Login, wall: Callable[[], None]
) -> None:
    caller = login(f"--confirm={box.run('hostname').strip()}")
    wall()
    caller.go()
    caller.applies()
    assert cuts(box)
    assert box.json("status")["pending_confirm"] is None
    assert box.json("rollback", "--yes")["outcome"] == "rolled-back"
    assert caller.ssh.wait(timeout=60) == 0


def vanish(box: Box, caller: Caller) -> None:
    caller.ssh.kill()


def kill(box: Box, caller: Caller) -> None:
    box.run("systemctl", "kill", "--signal=KILL", f"session-{caller.session}.scope")


def log_out(box: Box, caller: Caller) -> None:
    box.run("loginctl", "terminate-session", caller.session)


@pytest.mark.parametrize("lose", [vanish, kill, log_out])
@pytest.mark.parametrize("number", ROUNDS)
def test_losing_the_caller_does_not_stop_the_timer(
    box: Box,
    login: Login,
    wall: Callable[[], None],
    lose: Callable[[Box, Caller], None],
    number: int,
) -> None:
    wall()
    caller = login()
    caller.go()
    caller.applies()
    lose(box, caller)
    is_settled(box)
    assert caller.ssh.wait(timeout=60) not in (0, 7)


@pytest.mark.parametrize("number", ROUNDS)
def test_a_reboot_while_it_waits_leaves_nothing(
    box: Box, login: Login, wall: Callable[[], None], number: int
) -> None:
    """After an orderly one it is on record already; after a crash the next writer records it."""
    crash = number % 2 == 1
    wall()
    caller = login(WAITS_LONG)
    caller.go()
    caller.applies()
    box.reboot("--force", "--force") if crash else box.reboot()
    if crash:
        caller.ssh.kill()  # nothing tells it that its other end is gone
    assert caller.ssh.wait(timeout=60) not in (0, 7)
    assert not in_force(box)
    status = box.json("status", code=2 if crash else 0)
    assert len(status["unfinished"]) == crash
    assert "Too late" in box.remedy("confirm", code=7)
    is_settled(box)
