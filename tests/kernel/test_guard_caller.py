"""Whatever becomes of the caller: a rule that really cuts its login is gone again in time.

Each case logs in over TCP, on a pseudo terminal, and applies a plan whose rule drops all TCP, its
own login included. Then the caller is hung up, ended, killed, killed with its process group, or
all of its session is.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from faulty import NAT, POLICY, Host, eventually

from remedies import netns as namespaces
from remedies import planfile

REMEDY = os.path.join(os.path.dirname(sys.executable), "remedy")
LOGIN = str(Path(__file__).with_name("login.py"))
PORT = 2222
TIMEOUT = 4.0
"""Seconds that the plan waits for its confirmation."""


@dataclass(frozen=True)
class Site:
    """A host that one logs in to, and the namespace one comes from."""

    host: str
    client: str
    folder: Path
    login: subprocess.Popen[bytes]

    def connect(self, timeout: float) -> socket.socket:
        """Return a connection from the client's namespace."""
        with namespaces.inside(self.client):
            return socket.create_connection(("10.9.0.1", PORT), timeout)

    def welcomed(self) -> bool:
        """Tell whether one can log in."""
        with contextlib.suppress(OSError), self.connect(0.3) as one:
            return one.recv(16) == b"welcome\n"
        return False

    def pid(self) -> int:
        """Return the process of the command that was logged in for."""
        return int((self.folder / "pid").read_text())

    def rules(self) -> str:
        """Return every rule of the host."""
        argv = ["nsenter", f"--net=/run/netns/{self.host}", "nft", "-s", "list", "ruleset"]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def remedy(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command line on the host, from the console."""
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.host}", REMEDY, *words,
             "--state-dir", str(self.folder / "state"), "--policy", str(self.folder / "policy")],
            capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip


@pytest.fixture
def site(netns: Callable[..., str], tmp_path: Path) -> Iterator[Callable[[int], Site]]:
    """Make a host with a login server, and a plan that drops all TCP."""
    made: list[Site] = []

    def make(number: int) -> Site:
        host, client, folder = netns("guard"), netns("from"), tmp_path / str(number)
        folder.mkdir()
        (folder / "policy").write_text(POLICY.format(backend="nftables", fix="invalid-drop"))
        for line in (
            f"-n {host} link add up0 type veth peer name down0 netns {client}",
            f"-n {host} addr add 10.9.0.1/24 dev up0",
            f"-n {client} addr add 10.9.0.2/24 dev down0",
            f"-n {host} link set up0 up",
            f"-n {client} link set down0 up",
        ):
            subprocess.run(["ip", *line.split()], check=True)
        enter = ["nsenter", f"--net=/run/netns/{host}"]
        subprocess.run([*enter, "nft", NAT], check=True)
        command = [
            REMEDY, "apply", str(folder / "plan"), "--yes", "--window", "0",
            "--confirm-timeout", f"{TIMEOUT}s", "--state-dir", str(folder / "state"),
            "--policy", str(folder / "policy"),
        ]  # fmt: skip
        login = subprocess.Popen(
            [*enter, sys.executable, LOGIN, str(PORT), str(folder / "pid"), *command],
            start_new_session=True,
        )
        here = Site(host, client, folder, login)
        made.append(here)
        planned = here.remedy("plan", "--window", "0", "-o", str(folder / "plan"))
        assert planned.returncode == 0, planned.stderr
        cutting(folder / "plan")
        return here

    yield make
    for here in made:
        here.login.kill()
        here.login.wait()


def cutting(path: Path) -> None:
    """Take the match on INVALID out of the plan's rules: what is left drops all TCP."""
    plan = planfile.plan_from_json(path.read_text(), str(path))
    (change,) = plan.changes
    lines = [json.loads(line) for line in (change.after or "").splitlines()]
    for line in lines:
        if "rule" in line:
            line["rule"]["expr"] = [e for e in line["rule"]["expr"] if '"ct"' not in json.dumps(e)]
    table = "".join(
        json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in lines
    )
    assert table != change.after
    plan = replace(plan, changes=(replace(change, after=table),))
    path.write_text(json.dumps(planfile.plan_plain(plan, {})))


def hang_up(here: Site) -> None:
    """End the login server: the terminal's other side is gone."""
    for child in children(here.login.pid):
        os.kill(child, signal.SIGKILL)


def end(here: Site) -> None:
    """SIGTERM to the caller."""
    os.kill(here.pid(), signal.SIGTERM)


def kill(here: Site) -> None:
    """SIGKILL to the caller."""
    os.kill(here.pid(), signal.SIGKILL)


def kill_group(here: Site) -> None:
    """SIGKILL to the caller's process group."""
    os.killpg(here.pid(), signal.SIGKILL)


def log_out(here: Site) -> None:
    """SIGKILL to every process of the caller's session, as a session manager does at logout."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(int(pid)) == here.pid():
                os.kill(int(pid), signal.SIGKILL)


def children(parent: int) -> list[int]:
    """Return the child processes of one."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text()
            if int(stat.rpartition(")")[2].split()[1]) == parent:
                found.append(int(pid))
    return found


CASES = (hang_up, end, kill, kill_group, log_out)


def survive(here: Site, case: Callable[[Site], None]) -> float:
    """Apply over the login, be cut off, end the caller; return how long the host was cut off."""
    eventually(lambda: listening(here), 10, "nobody listens")
    before = here.rules()
    with here.connect(2) as session:
        eventually(lambda: here.rules() != before, 20, "nothing was applied")
        cut = time.monotonic()
        eventually(lambda: (here.folder / "pid").exists(), 5, "no command runs")
        assert not here.welcomed(), "the rule cuts nobody"
        session.settimeout(0.2)
        with pytest.raises(TimeoutError):
            read_all(session)
        case(here)
        eventually(lambda: here.rules() == before, TIMEOUT + 8, f"{case.__name__}: cut for good")
        took = time.monotonic() - cut
        eventually(here.welcomed, 5, "no login")
    told = here.remedy("history", "--json")
    (entry,) = json.loads(told.stdout)["transactions"]
    assert entry["outcome"] == "reverted", entry
    assert here.remedy("status").returncode == 0
    return took


def read_all(session: socket.socket) -> None:
    """Read what was on its way before the rule was there, to the end."""
    while session.recv(4096):
        pass


def listening(here: Site) -> bool:
    """Tell whether the login server is up, without taking its first connection."""
    with open(f"/proc/{here.login.pid}/net/tcp") as table:
        return any(f":{PORT:04X} 00000000:0000 0A" in line for line in table)


def test_the_login_comes_back_every_time(site: Callable[[int], Site]) -> None:
    """20 of 20: each of the five ends of a caller, four times, side by side."""
    cases = [case for case in CASES for _ in range(4)]
    sites = [site(number) for number in range(len(cases))]
    with ThreadPoolExecutor(7) as pool:
        took = list(pool.map(survive, sites, cases))
    assert len(took) == 20
    assert max(took) < TIMEOUT + 6


def test_a_login_that_stays_is_told_and_exits_with_7(site: Callable[[int], Site]) -> None:
    """The caller's terminal hears nothing while it is cut; its exit code says what happened."""
    here = site(0)
    waits = here.remedy("apply", "--yes", "--window", "0", "--confirm-timeout", "500ms", "--wait")
    assert waits.returncode == 7, waits.stderr
    assert "Not confirmed, and reverted" in waits.stdout


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 7)])
def test_on_a_terminal_the_question_can_be_answered_there(
    netns: Callable[..., str], tmp_path: Path, answer: str, code: int
) -> None:
    host = Host(netns("ask"), tmp_path).prepare()
    before = host.dump()
    argv = [
        "nsenter", f"--net=/run/netns/{host.ns}", REMEDY, "apply", "--yes", "--window", "0",
        "--confirm-timeout", "30s", "--state-dir", str(tmp_path / "state"),
        "--policy", str(tmp_path / "policy.yaml"),
    ]  # fmt: skip
    pid, master = pty.fork()
    if pid == 0:
        os.execvp(argv[0], argv)
    said = b""
    while b"Keep these changes?" not in said:
        said += os.read(master, 4096)
    os.write(master, answer.encode())
    with contextlib.suppress(OSError):  # EIO: it has ended
        while True:
            said += os.read(master, 4096)
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert os.waitstatus_to_exitcode(status) == code, said.decode()
    assert (host.dump() == before) == (answer == "n\n")
