"""A fleet in network namespaces: a controller, a bridge, and hosts with a real sshd each."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_in_forks
import drop_first
import once
import pytest
from cli_shapes import departures
from debian import Root
from fleet_host import HERE, TABLE, LightHost, kill_all, run
from forked_cli import Started
from machine import Machine
from plays import UNUSED
from waiting import eventually
from whole_host import WholeHost

from remedies.bundle import build

__all__ = ["TABLE", "LightHost", "WholeHost", "run"]

BIN = os.path.dirname(sys.executable)
_UNPACKED = HERE.parent.parent / "build/openssh/usr/sbin/sshd"
SSHD = str(_UNPACKED if _UNPACKED.exists() else "/usr/sbin/sshd")
QUICK = "Compression no\nCiphers aes128-gcm@openssh.com\nKexAlgorithms curve25519-sha256\n"
"""What else a server says: by default the tool's seven megabytes are compressed and enciphered by
portable code on their way from one process of this machine to another."""
_numbers = itertools.count(1)


@dataclass
class Fleet:
    """The controller and its hosts."""

    folder: Path
    netns: str
    machines: Callable[[str], Machine]
    cache: Path
    """Where the controller keeps what can be made again, as for all tests of a run."""
    hosts: dict[str, LightHost] = field(default_factory=dict)

    def host(self, name: str, *, sshd: bool = True, exposed: bool = True, legacy: bool = False,
             minimal: Root | None = None, tool: bool = True, **variables: Any,
             ) -> LightHost:  # fmt: skip
        """Add a host to the network and the inventory.

        ``legacy``: it has iptables-legacy alone. ``minimal``: it is a copy of the Debian in that
        folder, with python3-minimal. ``tool``: the single-file tool is there already.
        """
        number = next(_numbers)
        netns, address = f"rf-{os.getpid()}-{number}", f"10.77.0.{10 + number % 240}"
        host = LightHost(name, netns, address, self.folder / name, variables)
        run("ip", "netns", "add", netns)
        self._connect(host, number)
        if exposed:
            host.expose()
        if sshd:
            self._sshd(host, *(["legacy"] if legacy else []),
                       *(["minimal", str(minimal)] if minimal else []))  # fmt: skip
        if sshd and tool and not minimal:
            self._bring(host)
        return host

    def whole(self, name: str, suite: str, *, exposed: bool = True,
              **variables: Any) -> WholeHost:  # fmt: skip
        """Add a Debian that was booted by systemd; one of each release serves all tests."""
        machine = self.machines(suite)
        number = next(_numbers)
        netns, address = f"rf-{os.getpid()}-{number}", f"10.77.0.{10 + number % 240}"
        host = WholeHost(name, netns, address, self.folder / name, variables, machine=machine)
        run("ip", "netns", "attach", netns, str(machine.leader))
        self._connect(host, number)
        public = host.begin(self.folder / "key.pub")
        self._known(address, public)
        if exposed:
            host.expose()
        return host

    def _connect(self, host: LightHost, number: int) -> None:
        host.folder.mkdir()
        self.hosts[host.name] = host
        run("ip", "-n", host.netns, "link", "set", "lo", "up")
        run("ip", "-n", self.netns, "link", "add", f"v{number}", "type", "veth",
            "peer", "name", "eth0", "netns", host.netns)  # fmt: skip
        run("ip", "-n", self.netns, "link", "set", f"v{number}", "master", "br0", "up")
        run("ip", "-n", host.netns, "link", "set", "eth0", "up")
        run("ip", "-n", host.netns, "address", "add", f"{host.address}/24", "dev", "eth0")

    def _bring(self, host: LightHost) -> None:
        """Put the tool on a host, as the first command that it is sent does in half a second."""
        path, _ = build.cached(str(self.cache / "remedy/fleet/bundle"))
        put = 'umask 077; mkdir /var/lib/remedy/bundle && cp "$1" /var/lib/remedy/bundle'
        host.on("sh", "-c", put, "sh", path)

    def _known(self, address: str, public: str) -> None:
        with (self.folder / "known_hosts").open("a") as file:
            file.write(f"{address} {' '.join(public.split()[:2])}\n")

    def _sshd(self, host: LightHost, *how: str) -> None:
        key = host.folder / "host_key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        binaries = host.folder / "bin"
        binaries.mkdir(exist_ok=True)
        (host.folder / "sshd_config").write_text(
            f"Port 22\nListenAddress {host.address}\nHostKey {key}\nUsePAM no\nStrictModes no\n"
            f"AuthorizedKeysFile {self.folder}/key.pub\nPidFile none\nPermitRootLogin yes\n"
            f"SetEnv PATH={binaries}:/usr/sbin:/usr/bin:/sbin:/bin\n{QUICK}"
        )
        self._known(host.address, (host.folder / "host_key.pub").read_text())
        argv = ["unshare", "-m", "/usr/bin/python3", str(HERE / "light_host.py"), SSHD,
                str(host.folder)]  # fmt: skip
        host.start(*argv, *how, ready="Server listening")

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
            "remedy_policy": drop_first.PATH,
            **group,
        }
        common = {name: value for name, value in common.items() if value is not None}
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
            "XDG_CACHE_HOME": str(self.cache),
            "TMPDIR": str(self.folder),  # what a killed controller leaves goes with the test
            "ANSIBLE_NOCOLOR": "1",
            "PYTHONPATH": UNUSED,
        }

    def start(self, *argv: str) -> Started:
        """Start a program of the controller: in a fork, unless its whole path is said."""
        return ansible_in_forks.start(argv, self.netns, str(self.folder), self.environment())

    def kill(self, controller: Started) -> None:
        """Let the controller's machine die: all that runs there, at one moment."""
        kill_all(self.netns)
        controller.communicate(timeout=60)

    def call(self, *argv: str, timeout: float = 300.0) -> tuple[int, str, str]:
        """Run a program of the controller; return its exit code and what it said."""
        folder, environment = str(self.folder), self.environment()
        return ansible_in_forks.call(argv, self.netns, folder, environment, timeout)

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
        assert [one for line in said for one in departures(line)] == []
        return code, {s["host"]: s for s in said if s["kind"] == "host"}, out + err


def wait_for_log(runs: Path, number: int) -> Path:
    """Return the log of the one run in ``runs`` once so many hosts wait to be confirmed."""

    def waiting() -> int:
        return sum(text.count('"until":"2') for text in (f.read_text() for f in logs()))

    def logs() -> list[Path]:
        return list(runs.glob("*/states.jsonl"))

    eventually(lambda: waiting() >= number, 60)
    return logs()[0]


@pytest.fixture
def fleet(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, machines: Callable[[str], Machine]
) -> Iterator[Fleet]:
    """Give a controller and an empty network; everything is gone afterwards."""
    if os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("fleet tests need root, and on CI they must run", pytrace=False)
        pytest.skip("needs root: it makes network namespaces")
    netns = f"rf-{os.getpid()}-c{next(_numbers)}"
    run("ip", "netns", "add", netns)
    made = Fleet(tmp_path, netns, machines, once.cache(tmp_path_factory))
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
