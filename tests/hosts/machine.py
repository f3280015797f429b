"""Whole hosts with systemd as process 1: throw-away copies of a Debian (debian.py) that boot.

A copy is an overlay in memory over the one root folder, so a reboot finds what was written before
it. Nothing waits for a time to pass: systemd-nspawn says when the boot is done (sd_notify(3)).

Each has control groups of its own: systemd-nspawn puts what it boots into ``payload`` beside
itself, and of two machines in one ``payload`` each removes what the other's units are to run in.
Programs that are run in it are in them, too: who is two groups or more above is nobody to systemd
(EUNATCH from version 256 on).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import groups
from debian import Root

BOOT = 60.0
"""Seconds a boot may take; it takes about two."""
_HIERARCHIES = tuple(
    place
    for place in map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"))
    if (place / "cgroup.procs").exists()
)
"""Where systemd's control groups are: one tree, or two where the host has the first version, too
(cgroups(7))."""
_IN_GROUPS = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done; shift; exec "$@"'


class Machine:
    """One throw-away host, from :meth:`boot` to :meth:`close`."""

    def __init__(self, root: Root, binds: dict[str, Path]) -> None:
        """Lay a copy over ``root``; ``binds`` are files and folders shown in it, read-only."""
        self.place = Path(tempfile.mkdtemp(prefix="remedy-machine-", dir="/var/tmp"))
        # Of letters and digits alone: systemd takes no name that ends in a dash.
        self.name = "m" + self.place.name[-8:].encode().hex()
        self.root = self.place / "root"
        self._groups = [place / f"remedy-test-{self.name}" for place in _HIERARCHIES]
        self._binds = [f"--bind-ro={source}:{inside}" for inside, source in binds.items()]
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        _mount("-t", "tmpfs", "-o", "size=1g", "tmpfs", str(self.place))
        for name in ("upper", "work", "root"):
            (self.place / name).mkdir()
        layers = f"lowerdir={root},upperdir={self.place}/upper,workdir={self.place}/work"
        _mount("-t", "overlay", "-o", layers, "overlay", str(self.root))

    def boot(self) -> Machine:
        """Start it and return once its default target is reached."""
        # A socket for each boot: the next one must not hear what the last one has told.
        told_at = self.place / "notify"
        told_at.unlink(missing_ok=True)
        for group in self._groups:
            group.mkdir(exist_ok=True)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notes,
            (self.place / "console").open("ab") as console,
        ):
            notes.bind(str(told_at))
            self._nspawn = subprocess.Popen(
                ["sh", "-ec", _IN_GROUPS, "sh", *map(str, self._groups), "--",
                 "systemd-nspawn", "--quiet", f"--directory={self.root}", "--boot",
                 "--private-network", "--console=pipe", "--register=no", "--keep-unit",
                 "--capability=all", "--system-call-filter=@known", "--notify-ready=yes",
                 f"--machine={self.name}", "--hostname=box", *self._binds],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                env={**os.environ, "NOTIFY_SOCKET": str(told_at)},
            )  # fmt: skip
            ended = os.pidfd_open(self._nspawn.pid)
            try:
                self._await_ready(notes, ended)
            finally:
                os.close(ended)
        return self

    def _await_ready(self, notes: socket.socket, ended: int) -> None:
        """Wait until the boot is done; ``ended`` is readable once nspawn has ended instead."""
        end, ready, self._leader = time.monotonic() + BOOT, False, 0
        while not (ready and self._leader):
            left = max(0.0, end - time.monotonic())
            told, _, _ = select.select([notes.fileno(), ended], [], [], left)
            if notes.fileno() not in told:
                why = "systemd-nspawn ended" if told else f"no boot in {BOOT:g} s"
                raise AssertionError(f"{why}\n{self.console()}")
            for line in notes.recv(4096).decode().splitlines():
                name, _, value = line.partition("=")
                ready = ready or (name, value) == ("READY", "1")
                if name == "X_NSPAWN_LEADER_PID":
                    self._leader = int(value)

    @property
    def leader(self) -> int:
        """Return the pid, out here, of its process 1."""
        return self._leader

    def console(self) -> str:
        """Return the end of what it has printed."""
        return (self.place / "console").read_text(errors="replace")[-4000:]

    def argv(self, *words: str, among_its: bool = True) -> list[str]:
        """Return what runs a program in it as root.

        ``among_its`` processes, in the control group of its process 1, or as one that lives through
        a reboot. systemd-shutdown stops all of its, nsenter(1) stops when it sees that of its
        child, nobody continues it, and the child that it does not reap keeps the machine from going
        down.
        """
        pids = ["-p"] if among_its else []
        places = [f"{group}/payload/init.scope" for group in self._groups] if among_its else []
        return ["sh", "-ec", _IN_GROUPS, "sh", *places, "--",
                "nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", *pids, "-r", "-w",
                "--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
                *words]  # fmt: skip

    def run(
        self, *words: str, stdin: str | None = None, code: int | None = 0, timeout: float = 60.0
    ) -> str:
        """Run a program in it and return what it printed; ``code`` None takes any exit code."""
        done = subprocess.run(
            self.argv(*words), input=stdin, capture_output=True, text=True, check=False,
            timeout=timeout, stdin=subprocess.DEVNULL if stdin is None else None,
        )  # fmt: skip
        assert code in (None, done.returncode), (words, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Write a file of it, through its own eyes."""
        self.run("tee", path, stdin=text)

    def reboot(self, *options: str) -> None:
        """Really end everything in it and start again; ``--force --force`` ends it as it is."""
        assert self._nspawn is not None
        self.run("systemctl", "--no-block", "reboot", *options, code=None)
        # Without a unit to restart, nspawn ends with EXIT_FORCE_RESTART (133).
        assert self._nspawn.wait(timeout=BOOT) == 133, self.console()
        self.boot()

    def close(self) -> None:
        """End it and leave nothing behind."""
        if self._nspawn is not None:
            if self._leader:  # first, lest it starts again what is ended below
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._leader, signal.SIGKILL)
            self._nspawn.kill()
            self._nspawn.wait(timeout=30)
            for group in self._groups:
                groups.remove(group)
        for path in (self.root, self.place):
            subprocess.run(["umount", str(path)], check=True, timeout=30)
        self.place.rmdir()


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, timeout=30)
