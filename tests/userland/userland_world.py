"""A world of the lab whose host has the userland of another Debian: its own tools and Python.

The host's namespace is held by process 1 of a process namespace, chrooted into an overlay over
the release's root folder, with /proc and /sys of its own. To the tool it is a machine of its own:
process 1 is in the same network namespace, so fixes persist for boot. All of it, mounts included,
is gone with process 1, which ends with us.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from debian import Root

from remedies import policy
from remedies.lab.world import Options, World

DEADLINE = 120.0
"""Seconds that one command in the userland may take; most take a tenth of one."""
BUNDLE = "/opt/remedy.pyz"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
ADAPT = """\
import sys
sys.path.insert(0, sys.argv[1])
from remedies.bundle import archive
sys.stdout.buffer.write(archive.of_this_python(sys.argv[1]))
"""
_FIRST = Path(__file__).with_name("process_one.py")
# Its own number is read before /proc is the new process namespace's, where it is 1. All mounts are
# this process's alone (unshare(1) makes them private), so /mnt serves as well as a new folder.
# systemd-analyze asks which control group it is in: to be read, not written.
_ENTER = """\
set -e
read -r number rest < /proc/self/stat
mount -t tmpfs -o size=256m,mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
cp "$2" /mnt/root$3
cd /mnt/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 -o ro cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
echo "$number"
exec chroot . python3 -I -S -c "$4" "$3"
"""


class Userland(World):
    """A world whose host is a Debian; ``root`` what it is laid over, ``bundle`` the host tool.

    The host has the tool with bytecode for its own Python, as a fleet's host keeps it; ``plain``:
    as it was built, by this Python.
    """

    def __init__(
        self, scenario: str, options: Options, root: Root, bundle: Path, *, plain: bool = False
    ) -> None:
        super().__init__(scenario, options)
        self._lower, self._bundle = root, bundle if plain else adapted(bundle, root)
        self._first: subprocess.Popen[str] | None = None
        self._pid = 0

    def __enter__(self) -> Userland:
        super().__enter__()
        try:
            self._boot()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _boot(self) -> None:
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--",
                "sh", "-c", _ENTER, "sh",
                str(self._lower), str(self._bundle), BUNDLE, _FIRST.read_text()]  # fmt: skip
        self._first = subprocess.Popen(
            [*super().entering("host"), *argv], text=True, env=ENVIRONMENT, cwd="/",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._children.append(self._first)
        self._pid = int(self._answer() or 0)
        assert self._answer() == "ready", "process 1 of the userland did not start"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._end()
        finally:
            super().__exit__(kind, error, trace)

    def _end(self) -> None:
        """End process 1, and with it all others of its namespace: unshare(1) waits for them."""
        if self._first is None or self._first.stdin is None:
            return
        self._first.stdin.close()
        try:
            self._first.wait(DEADLINE / 4)
        except subprocess.TimeoutExpired:  # in the middle of a command line
            self._first.kill()
            self._first.wait(DEADLINE / 4)

    def _answer(self) -> str:
        assert self._first is not None
        assert self._first.stdout is not None
        ready, _, _ = select.select([self._first.stdout], [], [], DEADLINE)
        assert ready, f"no answer in {DEADLINE:g} s"
        return self._first.stdout.readline().strip()

    @property
    def root(self) -> Path:
        """Return the userland's root folder, as it sees it."""
        return Path(f"/proc/{self._pid}/root")

    def entering(self, role: str) -> list[str]:
        """Return what runs a program of this machine's among the processes of the userland."""
        if role != "host":
            return super().entering(role)
        return ["nsenter", f"--target={self._pid}", "--net", "--pid", "--"]

    def stop(self, child: subprocess.Popen[str]) -> None:
        """End a process that :meth:`start` made on the host: nsenter(1) waits for it."""
        listed = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text()
        for pid in listed.split():
            os.kill(int(pid), signal.SIGTERM)
        child.wait(DEADLINE)

    def run(self, role: str, argv: Sequence[str], stdin: str = "") -> str:
        """Run a command; on the host it is the userland's own."""
        if role != "host":
            return super().run(role, argv, stdin)
        return self.sh(*argv, stdin=stdin)

    def sh(
        self, *argv: str, stdin: str = "", code: int | None = 0, role: str = "host", **names: str
    ) -> str:
        """Run a program of the userland's and return what it printed; None takes any exit code.

        Another ``role``: in that network namespace. ``names`` are variables of its environment.
        """
        net = f"--net=/run/netns/{self.namespace(role)}"
        enter = ["nsenter", f"--target={self._pid}", net, "--pid", "--mount", "--root", "--wd"]
        done = subprocess.run(
            [*enter, "--", *argv], input=stdin, capture_output=True, text=True, check=False,
            timeout=DEADLINE, env={**ENVIRONMENT, **names},
        )  # fmt: skip
        assert code in (None, done.returncode), (
            f"{argv[0]}: exit {done.returncode}\n{done.stdout[-4000:]}{done.stderr}"
        )
        return done.stdout + (done.stderr if code is None else "")

    def python(self, text: str, *words: str, stdin: str = "") -> str:
        """Run a program text with the userland's Python, the bundle's modules within reach."""
        begin = f"import sys; sys.path.insert(0, {BUNDLE!r}); exec(sys.argv.pop(1))"
        return self.sh("python3", "-I", "-S", "-c", begin, text, *words, stdin=stdin)

    def command(
        self, *words: str, code: int | None = 0, beside: Callable[[], object] | None = None
    ) -> str:
        """Run a command line of the bundle's and return what it printed.

        ``code`` None takes any exit code; ``beside`` is done over and over while it runs.
        """
        assert self._first is not None
        assert self._first.stdin is not None
        assert self._first.stdout is not None
        self._first.stdin.write(json.dumps(words) + "\n")
        self._first.stdin.flush()
        while beside is not None and not select.select([self._first.stdout], [], [], 0)[0]:
            beside()
        got = int(self._answer() or -99)
        out, err = ((self.root / "run" / name).read_text() for name in ("out", "err"))
        assert code in (None, got), f"{words}: exit {got}\n{out[-1500:]}{err}"
        return out

    def json(self, *words: str, code: int | None = 0, **options: Any) -> dict[str, Any]:
        """Run a command line with ``--json`` and return what it printed."""
        return dict(json.loads(self.command(*words, "--json", code=code, **options)))

    def policy(self, text: str) -> str:
        """Put a policy on the host, compiled as for a fleet; return its path there."""
        source = Path(self.folder, "policy.yaml")
        source.write_text(text)
        inside = self.root / "root/policy.json"
        inside.write_text(policy.to_compiled(policy.load((str(source),))))
        inside.chmod(0o600)
        return "/root/policy.json"

    def files(self) -> dict[str, str]:
        """Return every file and folder of /etc: content, mode, owner, extended attributes."""
        return dict(_described(self.root / "etc"))


def adapted(bundle: Path, root: Root) -> Path:
    """Return the bundle with bytecode for a release's Python, made once for all processes."""
    made = bundle.parent / "adapted" / f"{root.base.name}.pyz"
    made.parent.mkdir(exist_ok=True)
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            # The mount is this process's alone: nothing is written to the release.
            script = 'mount --bind "$1" "$2/mnt"; exec chroot "$2" python3 -I -S -c "$3" "/mnt/$4"'
            done = subprocess.run(
                ["unshare", "--mount", "sh", "-ec", script, "sh", str(bundle.parent),
                 str(root.base), ADAPT, bundle.name],
                capture_output=True, timeout=DEADLINE, env=ENVIRONMENT, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr.decode()
            draft = made.with_suffix(".draft")
            draft.write_bytes(done.stdout)
            draft.rename(made)
    return made


def _described(folder: Path) -> Iterator[tuple[str, str]]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        status = entry.stat(follow_symlinks=False)
        names = os.listxattr(entry.path, follow_symlinks=False)
        keys = {n: os.getxattr(entry.path, n, follow_symlinks=False) for n in names}
        about = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid} {keys}"
        if entry.is_symlink():
            about += f" -> {os.readlink(entry.path)}"
        elif entry.is_file():
            about += f"\n{Path(entry.path).read_bytes()!r}"
        yield entry.path.partition("/root/etc")[2], about
        if entry.is_dir(follow_symlinks=False):
            yield from _described(Path(entry.path))
