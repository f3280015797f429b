"""A real Docker daemon in a namespace of its own, between containers and a server.

::

    container                host                                       server
    eth0 172.17.0.2  ---  docker0 172.17.0.1 | eth0 10.21.17.99  ---  eth0 10.21.17.1
                           every rule is Docker's

It is a lab's world whose host runs dockerd, so that the lab's traffic and comparisons do here,
too; the role ``client`` is a container. The daemon has its own mount namespace: what it mounts,
and what it writes to /etc/docker and /run, ends with it.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from socket import socket as Socket  # noqa: N812 - 'socket' is a method's name here, too
from types import TracebackType
from typing import Self

import groups
import places

from remedies.errors import RemedyError
from remedies.lab.topology import uplink
from remedies.lab.world import DEADLINE, Options, World, child_environment

IMAGE = "remedy-busybox:1"
SLEEP = ("--", "/bin/busybox", "sleep", "600")
"""A container that does nothing."""
PATIENCE = 30.0
"""Seconds that the daemon may take to start, to stop, or for one command."""

_IPV6 = ("--ipv6", "--fixed-cidr-v6", "fd17:172::/64", "--ip6tables", "--experimental")
SAVES = ("iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save")

_COUNTERS = re.compile(r" \[\d+:\d+\]$", re.MULTILINE)
_IDLE = re.compile(r"(?::\w+ ACCEPT\n?)+")
_UNPACKED = Path(__file__).resolve().parent.parent.parent / "build" / "docker"
_PRIVATE = ("/etc/docker", "/run/docker", "/run/containerd")
_DAEMON = """\
for folder in {folders}; do mount -t tmpfs remedy "$folder"; done
exec "$@"
"""


def search_path() -> str:
    """Return PATH with Docker's programs: those unpacked for the tests, then the distribution's.

    Client and daemon have to be of one version: a client finds an older daemon too old.
    """
    own = [f"{_UNPACKED}/{folder}" for folder in ("usr/bin", "usr/sbin", "bin")]
    return os.pathsep.join([*own, "/usr/sbin", "/usr/bin", "/bin", os.environ.get("PATH", "")])


def missing() -> list[str]:
    """Return the programs that these tests need and this machine does not have."""
    names = ("dockerd", "containerd", "runc", "docker-proxy", "docker", "busybox")
    return [name for name in names if shutil.which(name, path=search_path()) is None]


class DockerHost(World):
    """The world; a context manager that leaves nothing behind."""

    unshared: tuple[str, ...] = ("--mount", "--propagation", "slave")
    """What the daemon has of its own, as unshare(1) names it."""
    private: tuple[str, ...] = _PRIVATE
    """Folders of which the daemon sees one of its own, empty at first."""

    def __init__(self, options: Options, iptables: str) -> None:
        """Describe it; ``iptables`` is what the daemon runs: iptables-nft or iptables-legacy."""
        super().__init__("docker", options)
        self._iptables = iptables
        self._pids: dict[str, int] = {}
        self._places = contextlib.ExitStack()
        self._daemon: subprocess.Popen[bytes] | None = None
        self.started_in = 0.0
        """Seconds from the daemon's start to its readiness."""

    def __enter__(self) -> Self:
        """Wire the host to the server, start the daemon, import the image."""
        super().__enter__()
        self.place = tempfile.mkdtemp(prefix="remedy-docker-")
        try:
            uplink(self)
            self._start()
            self._image()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    @property
    def first(self) -> int:
        """Return the number of the daemon's own process."""
        assert self._daemon is not None
        return self._daemon.pid

    @property
    def address(self) -> str:
        """Return what DOCKER_HOST is for this daemon."""
        return f"unix://{self.place}/docker.sock"

    def client(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run Docker's client and return how it ended."""
        return subprocess.run(
            ["docker", *words],
            input=stdin,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            env={**self._environment(), "DOCKER_HOST": self.address},
        )

    def docker(self, *words: str, stdin: bytes = b"") -> str:
        """Run Docker's client and return what it printed; raise RemedyError where it fails."""
        done = self.client(*words, stdin=stdin)
        if done.returncode != 0:
            raise RemedyError(f"docker {' '.join(words)}: {done.stderr.decode().strip()}")
        return done.stdout.decode().strip()

    def container(self, name: str, *words: str, role: str = "") -> str:
        """Run a container; ``words`` are options, a ``--``, and the command. Returns its id.

        With ``role`` the lab's traffic finds it by that name.
        """
        cut = words.index("--")
        options, command = words[:cut], words[cut + 1 :]
        found = self.docker("run", "-d", "--name", name, *options, IMAGE, *command)
        self.locate(name, role)
        return found

    def locate(self, name: str, role: str = "") -> int:
        """Return the process id of a container, and remember it: a restart changes it."""
        pid = int(self.docker("inspect", "-f", "{{.State.Pid}}", name))
        self._pids[role or name] = pid
        return pid

    def address_of(self, container: str) -> str:
        """Return a container's address on the default bridge, of the world's family."""
        key = "IPAddress" if self.options.family == 4 else "GlobalIPv6Address"
        return self.docker("inspect", "-f", f"{{{{.NetworkSettings.{key}}}}}", container)

    def remove(self, *names: str) -> None:
        """Remove containers at once, and their volumes."""
        if names:
            self.docker("rm", "-f", "-v", *names)

    def namespace(self, role: str) -> str:
        """Return what names the network namespace of a container (a process), or of the world."""
        return str(self._pids[role]) if role in self._pids else super().namespace(role)

    def entering(self, role: str) -> list[str]:
        """Return the argv prefix that runs a command in a container's namespace, or the world's."""
        if role not in self._pids:
            return super().entering(role)
        # What is started there ends by itself where nobody is left to end it.
        return ["timeout", "600", "nsenter", f"--net=/proc/{self._pids[role]}/ns/net", "--"]

    def tables(self) -> dict[str, str]:
        """Return every table as nft and as iptables-save print it, without packet counters.

        A legacy table without rules is left out: once loaded it stays until the namespace ends.
        """
        found = {}
        for line in self.run("host", ["nft", "list", "tables"]).splitlines():
            words = line.split()[1:]
            found[f"nft {' '.join(words)}"] = self.run(
                "host", ["nft", "-s", "list", "table", *words]
            )
        for tool in SAVES:
            if "legacy" in tool and self._iptables != "iptables-legacy":
                continue  # running it where no legacy table is would make one
            for part in self.run("host", [tool]).split("\nCOMMIT\n"):
                name, _, text = part.partition("\n*")[2].partition("\n")
                if name and not ("legacy" in tool and _IDLE.fullmatch(_COUNTERS.sub("", text))):
                    found[f"{tool} {name}"] = _COUNTERS.sub("", text)
        return found

    def docker_tables(self, before: dict[str, str]) -> dict[str, str]:
        """Return :meth:`tables` but for what a fix has added since: that names itself.

        iptables adds a chain and its jumps to tables of Docker's; those lines are taken out.
        """
        now = self.tables()
        added = {name: text for name, text in now.items() if name not in before}
        assert all("remedy" in f"{name} {text}".lower() for name, text in added.items()), added
        return {name: _without_ours(now[name]) for name in now if name not in added}

    def _environment(self) -> dict[str, str]:
        """Return the environment of the daemon and of its client; ``iptables`` is as chosen."""
        return {**child_environment(), "PATH": f"{self.place}/bin{os.pathsep}{search_path()}"}

    def _start(self) -> None:
        os.mkdir(f"{self.place}/bin")
        for name, tool in (
            ("iptables", self._iptables),
            ("ip6tables", self._iptables.replace("ip", "ip6", 1)),
        ):
            program = shutil.which(tool)
            assert program is not None
            os.symlink(program, f"{self.place}/bin/{name}")
        self._places.enter_context(places.there(self.private))
        place = self.place
        argv = [
            *("nsenter", f"--net=/run/netns/{self.namespace('host')}"),
            *("unshare", *self.unshared),
            *("sh", "-ec", _DAEMON.format(folders=" ".join(self.private)), "sh"),
            *("dockerd", "-H", self.address, "--pidfile", f"{place}/pid"),
            *("--data-root", f"{place}/data", "--exec-root", f"{place}/exec"),
            *("--cgroup-parent", self._cgroup, "--exec-opt", "native.cgroupdriver=cgroupfs"),
            *("--shutdown-timeout", "2"),
            *(_IPV6 if self.options.family == 6 else ()),
        ]
        began = time.monotonic()
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
            open(f"{place}/log", "wb") as log,
        ):
            ready.bind(f"{place}/ready")
            self._daemon = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self._environment(), "NOTIFY_SOCKET": f"{place}/ready"},
                start_new_session=True,
            )
            self._await_ready(ready, began + PATIENCE)
        self.started_in = time.monotonic() - began

    def _await_ready(self, ready: Socket, until: float) -> None:
        """Wait for READY=1 (sd_notify(3)), or for the daemon's end."""
        assert self._daemon is not None
        handle = os.pidfd_open(self._daemon.pid)
        try:
            while True:
                left = max(0.0, until - time.monotonic())
                heard = select.select([ready.fileno(), handle], [], [], left)[0]
                if ready.fileno() in heard and b"READY=1" in ready.recv(4096):
                    return
                if ready.fileno() not in heard:
                    raise RemedyError(f"dockerd did not start:\n{self.log()}")
        finally:
            os.close(handle)

    def log(self) -> str:
        """Return the end of what the daemon wrote."""
        return Path(f"{self.place}/log").read_text(errors="replace")[-4000:]

    def _image(self) -> None:
        """Import an image that holds busybox alone."""
        busybox = shutil.which("busybox", path=search_path())
        assert busybox is not None
        root = Path(self.place, "root")
        for folder in ("bin", "www", "tmp"):
            (root / folder).mkdir(parents=True)
        shutil.copy(busybox, root / "bin" / "busybox")
        (root / "www" / "index.html").write_text("published\n")
        packed = subprocess.run(
            ["tar", "-C", str(root), "-c", "."], capture_output=True, check=True, timeout=PATIENCE
        )
        self.docker("import", "-", IMAGE, stdin=packed.stdout)

    @property
    def _cgroup(self) -> str:
        return f"/remedy-test-{self.id}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the containers, end the daemon by its pid, and take all the rest away."""
        with contextlib.ExitStack() as steps:  # the last one first, and each whatever happens
            steps.callback(shutil.rmtree, self.place)
            steps.push(self._places)
            steps.callback(super().__exit__, kind, error, trace)
            steps.callback(self._end_cgroup)
            steps.callback(self._stop)
            steps.callback(self.stop_all)

    def _stop(self) -> None:
        daemon = self._daemon
        if daemon is None:
            return
        if daemon.poll() is None:
            with contextlib.suppress(RemedyError, subprocess.TimeoutExpired):
                self.remove(*self.docker("ps", "-aq").split())
            os.kill(self.first, signal.SIGTERM)
        try:
            daemon.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait(DEADLINE)

    def _end_cgroup(self) -> None:
        """Kill what a daemon that failed has left running, and remove its control groups.

        The first version has a tree for each controller, the second one for all (cgroups(7)).
        """
        name = self._cgroup.lstrip("/")
        for top in glob.glob(f"/sys/fs/cgroup/{name}") + glob.glob(f"/sys/fs/cgroup/*/{name}"):
            groups.remove(Path(top))


def _without_ours(text: str) -> str:
    """Return a table without our chain, the jumps to it and its rules."""
    kept = re.sub(r"\n?\tchain REMEDY-[A-Z]+ \{\n(?:.*\n)*?\t\}\n", "", text)
    return "".join(line for line in kept.splitlines(True) if "REMEDY-" not in line)
