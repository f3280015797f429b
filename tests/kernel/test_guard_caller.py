"""Whatever becomes of the caller: a rule that cuts its SSH is gone again in time. No systemd here.

Each case logs in through the real sshd, on a pseudo terminal, and applies a plan whose rule drops
all TCP, its own session included, or only new connections. Then its terminal is hung up, or the
caller is ended, killed with its process group, with all of its session, or its client vanishes.
tests/systemd has the same on a host that systemd runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cutting_form
import forked_cli
import pytest
from faulty import NAT, POLICY, Host
from waiting import eventually

from remedies.namespaces import netns as namespaces

HERE = Path(__file__).parent
REMEDY = os.path.join(os.path.dirname(sys.executable), "remedy")
_UNPACKED = HERE.parent.parent / "build/openssh/usr/sbin/sshd"
CUTTING = HERE / "cutting_form.py"
SSHD = str(_UNPACKED if _UNPACKED.exists() else "/usr/sbin/sshd")
PORT = 2222
TIMEOUT = 12.0
"""Seconds that the plan waits for its confirmation."""
SSHD_CONFIG = """\
Port {port}
ListenAddress 10.9.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
UseDNS no
PidFile none
PermitRootLogin yes
KexAlgorithms curve25519-sha256
"""
"""One curve for the keys: what ssh prefers takes a tenth of a second of processor."""


@dataclass(frozen=True)
class Site:
    """A host that one logs in to, and the namespace one comes from."""

    host: str
    client: str
    folder: Path
    sshd: subprocess.Popen[bytes]

    def ssh(self, *words: str) -> list[str]:
        """Return what runs a command on the host, from the client."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR",
                   "ConnectTimeout=10", "BatchMode=yes")  # fmt: skip
        return ["nsenter", f"--net=/run/netns/{self.client}", "ssh", "-F", "none",
                "-i", str(self.folder / "key"), "-p", str(PORT), *(f"-o{o}" for o in options),
                *words]  # fmt: skip

    def connect(self, timeout: float) -> socket.socket:
        """Return a connection from the client's namespace."""
        with namespaces.inside(self.client):
            return socket.create_connection(("10.9.0.1", PORT), timeout)

    def welcomed(self, seconds: float) -> bool:
        """Tell whether sshd answers a new connection."""
        with contextlib.suppress(OSError), self.connect(seconds) as one:
            return one.recv(4) == b"SSH-"
        return False

    def pid(self) -> int:
        """Return the caller: who was logged in and applies."""
        return int((self.folder / "pid").read_text())

    def rules(self, *options: str) -> str:
        """Return every rule of the host."""
        return self.sh("nft", *(options or ("-s",)), "list", "ruleset")

    def unsent(self) -> int:
        """Return the bytes that the client has sent and that nobody has acknowledged."""
        argv = ["ss", "-tnH", "state", "established"]
        with namespaces.inside(self.client):
            out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        return sum(int(line.split()[1]) for line in out.splitlines())

    def sh(self, *argv: str) -> str:
        """Run a program on the host, from its console."""
        with namespaces.inside(self.host):
            return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def remedy(self, *words: str, cut: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command line on the host, from the console; ``cut``: that of cutting_form.py."""
        where = ("--state-dir", str(self.folder / "state"),
                 "--policy", str(self.folder / "policy"))  # fmt: skip
        prepare = partial(cutting_form.on, self.host, cut)
        return forked_cli.run(*words, *where, env=os.environ, prepare=prepare)


@pytest.fixture
def site(netns: Callable[..., str], tmp_path: Path) -> Iterator[Callable[[int], Site]]:
    """Make a host with an sshd."""
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
        for key in ("key", "host_key"):
            path = str(folder / key)
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        (folder / "sshd_config").write_text(SSHD_CONFIG.format(port=PORT, folder=folder))
        with (folder / "sshd.log").open("wb") as log:
            sshd = subprocess.Popen(
                [*enter, "unshare", "--mount", sys.executable, str(HERE / "login.py"), SSHD,
                 str(folder)],
                start_new_session=True, stderr=log,
            )  # fmt: skip
        here = Site(host, client, folder, sshd)
        made.append(here)
        return here

    yield make
    for here in made:
        for child in children(here.sshd.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        here.sshd.kill()
        here.sshd.wait()


def hang_up(here: Site, _client: subprocess.Popen[bytes]) -> None:
    """Kill the sshd of this session, which holds the terminal's other side."""
    stat = Path(f"/proc/{here.pid()}/stat").read_text()
    os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)


def end(here: Site, _client: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the caller."""
    os.kill(here.pid(), signal.SIGTERM)


def kill_group(here: Site, _client: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the caller's process group."""
    os.killpg(here.pid(), signal.SIGKILL)


def log_out(here: Site, _client: subprocess.Popen[bytes]) -> None:
    """SIGKILL to every process of the caller's session, as a session manager does at logout."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(int(pid)) == here.pid():
                os.kill(int(pid), signal.SIGKILL)


def vanish(_here: Site, client: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the client; where the rule cuts its session the host does not hear of it."""
    client.kill()


def children(parent: int) -> list[int]:
    """Return the child processes of one."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text()
            if int(stat.rpartition(")")[2].split()[1]) == parent:
                found.append(int(pid))
    return found


CASES = [
    *((lose, "all") for lose in (hang_up, end, kill_group, log_out, vanish)),
    # Its session is not cut: the host hears of its end at once.
    (end, "new"),
    (vanish, "new"),
]


def survive(here: Site, case: tuple[Callable[[Site, subprocess.Popen[bytes]], None], str]) -> str:
    """Apply over SSH, be cut off, lose the caller; return how the transaction ended."""
    lose, what = case
    planned = here.remedy("plan", "--window", "0", "-o", str(here.folder / "plan"), cut=what)
    assert planned.returncode == 0, planned.stderr
    eventually(lambda: here.welcomed(1), 30, "nobody listens")
    before = here.rules()
    apply = shlex.join([
        sys.executable, str(CUTTING), what, "apply", str(here.folder / "plan"), "--yes",
        "--window", "0", "--confirm-timeout", f"{TIMEOUT}s",
        "--state-dir", str(here.folder / "state"),
        "--policy", str(here.folder / "policy"),
    ])  # fmt: skip
    command = f"echo $$ > {shlex.quote(str(here.folder / 'pid'))}; exec {apply}"
    log = (here.folder / "client.log").open("wb")
    with log, subprocess.Popen(
        here.ssh("-tt", "root@10.9.0.1", command),
        stdin=subprocess.PIPE, stdout=log, stderr=log,
    ) as client:  # fmt: skip
        try:
            eventually(lambda: here.rules() != before, 60, "nothing was applied")
            assert client.stdin is not None
            client.stdin.write(b"x")
            client.stdin.flush()
            assert not here.welcomed(0.3), "the rule cuts nobody"
            assert re.search(r"packets [1-9]", here.rules("-a")), "it has dropped nothing"
            if what == "all":
                eventually(lambda: here.unsent() > 0, TIMEOUT / 2, "its own session is not cut")
            lose(here, client)
            eventually(lambda: here.rules() == before, 60, f"{case}: cut for good")
        finally:
            client.kill()
    eventually(lambda: here.welcomed(1), 30, "no login")
    assert subprocess.run(here.ssh("root@10.9.0.1", "true"), check=False).returncode == 0
    eventually(lambda: here.remedy("status").returncode == 0, 20, "it has no end")
    (entry,) = json.loads(here.remedy("history", "--json").stdout)["transactions"]
    return str(entry["outcome"])


def test_the_login_comes_back_every_time(site: Callable[[int], Site]) -> None:
    """Five ends of a caller, side by side, two of them under a rule that cuts others alone, too."""
    sites = [site(number) for number in range(len(CASES))]
    with ThreadPoolExecutor(7) as pool:
        ended = list(pool.map(survive, sites, CASES))
    assert len(ended) == len(CASES)
    # Who is killed while it still verifies has not begun to wait: that is undone at once.
    assert set(ended) <= {"reverted", "rolled-back"}
    assert "reverted" in ended


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
    while b"Keep these changes?" not in said or said.count(b" s left. ") < 2:  # it counts down
        said += os.read(master, 4096)
    os.write(master, answer.encode())
    with contextlib.suppress(OSError):  # EIO: it has ended
        while True:
            said += os.read(master, 4096)
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert os.waitstatus_to_exitcode(status) == code, said.decode()
    assert (host.dump() == before) == (answer == "n\n")
