"""A fleet in network namespaces: a controller, a bridge, and hosts with a real sshd each."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
BIN = os.path.dirname(sys.executable)
_UNPACKED = HERE.parent.parent / "build/openssh/usr/sbin/sshd"
SSHD = str(_UNPACKED if _UNPACKED.exists() else "/usr/sbin/sshd")
NAT = """
table ip world_nat {
  chain post {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 172.17.0.0/16 masquerade
  }
}
"""
TABLE = "remedy_invalid_drop"
_numbers = itertools.count(1)


def run(*argv: str, stdin: str | None = None, timeout: float = 30.0) -> str:
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}"
    return done.stdout


@dataclass
class LightHost:
    """One host: its namespace, address, folder and processes."""

    name: str
    netns: str
    address: str
    folder: Path
    variables: dict[str, Any] = field(default_factory=dict)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def inside(self, *argv: str, stdin: str | None = None) -> str:
        """Run a command in the host's network namespace (not in its mounts)."""
        return run("nsenter", f"--net=/run/netns/{self.netns}", *argv, stdin=stdin)

    def on(self, *argv: str) -> str:
        """Run a command on the host: in its network and its mounts."""
        return run("nsenter", "-t", str(self.processes[0].pid), "-n", "-m", *argv)

    def ruleset(self) -> str:
        return self.inside("nft", "-s", "list", "ruleset")

    def has_table(self) -> bool:
        return f"table inet {TABLE} " in self.ruleset()

    def expose(self) -> None:
        """Give the host the fault: TCP is rewritten there."""
        self.inside("nft", "-f", "-", stdin=NAT)

    def start(self, *argv: str, ready: str) -> None:
        """Start a program in the host's namespace; return when it has said ``ready``."""
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.netns}", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        assert process.stdout is not None
        said = ""
        while ready not in said:
            readable, _, _ = select.select([process.stdout], [], [], 10)
            line = process.stdout.readline() if readable else ""
            assert line, f"{argv}: never said {ready!r}: {said}"
            said += line

    def agent(self, arrival: str, leaving: str) -> None:
        """Let another program of the host act when our table comes and goes."""
        self.start(sys.executable, str(HERE / "agent.py"), TABLE, arrival, leaving, ready="ready")

    def end_agent(self) -> None:
        """End the agent and take away what it put in the way."""
        with self.processes.pop() as process:
            process.kill()
        self.inside("nft", "-f", "-", stdin="add table inet cut\ndelete table inet cut\n")

    def stop(self) -> None:
        """End everything in the host's namespace: our processes and the guards they left."""
        for process in self.processes:
            process.kill()
        kill_all(self.netns)
        for process in self.processes:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@dataclass
class Fleet:
    """The controller and its hosts."""

    folder: Path
    netns: str
    hosts: dict[str, LightHost] = field(default_factory=dict)

    def host(self, name: str, *, sshd: bool = True, exposed: bool = True, legacy: bool = False,
             **variables: Any) -> LightHost:  # fmt: skip
        """Add a host to the network and the inventory."""
        number = next(_numbers)
        netns, address = f"rf-{os.getpid()}-{number}", f"10.77.0.{10 + number % 240}"
        host = LightHost(name, netns, address, self.folder / name, variables)
        host.folder.mkdir()
        run("ip", "netns", "add", netns)
        self.hosts[name] = host
        run("ip", "-n", netns, "link", "set", "lo", "up")
        run("ip", "-n", self.netns, "link", "add", f"v{number}", "type", "veth",
            "peer", "name", "eth0", "netns", netns)  # fmt: skip
        run("ip", "-n", self.netns, "link", "set", f"v{number}", "master", "br0", "up")
        run("ip", "-n", netns, "link", "set", "eth0", "up")
        run("ip", "-n", netns, "address", "add", f"{address}/24", "dev", "eth0")
        if exposed:
            host.expose()
        if sshd:
            self._sshd(host, legacy)
        return host

    def _sshd(self, host: LightHost, legacy: bool) -> None:
        key = host.folder / "host_key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        binaries = host.folder / "bin"
        binaries.mkdir(exist_ok=True)
        (host.folder / "sshd_config").write_text(
            f"Port 22\nListenAddress {host.address}\nHostKey {key}\nUsePAM no\nStrictModes no\n"
            f"AuthorizedKeysFile {self.folder}/key.pub\nPidFile none\nPermitRootLogin yes\n"
            f"SetEnv PATH={binaries}:/usr/sbin:/usr/bin:/sbin:/bin\n"
        )
        public = (host.folder / "host_key.pub").read_text().split()[:2]
        with (self.folder / "known_hosts").open("a") as file:
            file.write(f"{host.address} {' '.join(public)}\n")
        argv = ["unshare", "-m", "/usr/bin/python3", str(HERE / "light_host.py"), SSHD,
                str(host.folder)]  # fmt: skip
        host.start(*argv, *(["legacy"] if legacy else []), ready="Server listening")

    def inventory(self, **group: Any) -> str:
        """Write the inventory and return its path."""
        common = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.folder / "key"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.folder}/known_hosts "
            "-o StrictHostKeyChecking=yes",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_timeout": 4,
            "remedy_window": "0s",
            **group,
        }
        hosts = {
            name: {"ansible_host": host.address, **host.variables}
            for name, host in self.hosts.items()
        }
        path = self.folder / "inventory.json"
        path.write_text(json.dumps({"all": {"vars": common, "hosts": hosts}}))
        return str(path)

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.folder),
            "ANSIBLE_NOCOLOR": "1",
        }

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start a program of the controller."""
        return subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.netns}", os.path.join(BIN, argv[0]), *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
            cwd=self.folder,
        )

    def call(self, *argv: str, timeout: float = 120.0) -> tuple[int, str, str]:
        """Run a program of the controller; return its exit code and what it said."""
        with self.start(*argv) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return process.returncode, out, err

    def remedy(self, *words: str, **group: Any) -> tuple[int, dict[str, dict[str, Any]], str]:
        """Run ``remedy fleet``; return its exit code, each host's last word, and all output."""
        return self._said("fleet", *words, "-i", self.inventory(**group), "--json")

    def resume(self, name: str) -> tuple[int, dict[str, dict[str, Any]], str]:
        """Go on with a run in ``runs``; return as :meth:`remedy` does."""
        return self._said("fleet", "apply", "--resume", name, "--run-dir", "runs", "--yes",
                          "--json")  # fmt: skip

    def _said(self, *argv: str) -> tuple[int, dict[str, dict[str, Any]], str]:
        code, out, err = self.call("remedy", *argv)
        said = [json.loads(line) for line in out.splitlines()]
        return code, {s["host"]: s for s in said if s["kind"] == "host"}, out + err


def kill_all(netns: str) -> None:
    """End every process of a namespace that this test made."""
    for pid in run("ip", "netns", "pids", netns).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    """Return once something is so; fail when time is up."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.05)


def wait_for_log(runs: Path, number: int) -> Path:
    """Return the log of the one run in ``runs`` once so many hosts wait to be confirmed."""

    def waiting() -> int:
        return sum(text.count('"until":"2') for text in (f.read_text() for f in logs()))

    def logs() -> list[Path]:
        return list(runs.glob("*/states.jsonl"))

    wait_until(lambda: waiting() >= number, 30)
    return logs()[0]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Give a controller and an empty network; everything is gone afterwards."""
    if os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("fleet tests need root, and on CI they must run", pytrace=False)
        pytest.skip("needs root: it makes network namespaces")
    netns = f"rf-{os.getpid()}-c{next(_numbers)}"
    run("ip", "netns", "add", netns)
    made = Fleet(tmp_path, netns)
    try:
        run("ip", "-n", netns, "link", "set", "lo", "up")
        run("ip", "-n", netns, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", netns, "address", "add", "10.77.0.1/24", "dev", "br0")
        run("ip", "-n", netns, "link", "set", "br0", "up")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key"))
        yield made
    finally:
        for host in made.hosts.values():
            host.stop()
        kill_all(netns)
        for name in (*(host.netns for host in made.hosts.values()), netns):
            subprocess.run(["ip", "netns", "del", name], check=False)
