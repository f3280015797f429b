"""Running the command line in a process of its own in which one named point goes wrong.

``remedies.transaction.crash_points.hit`` does nothing; here it is replaced, in a forked child that
has entered the test's namespace, by something that kills, raises or notes. Boot files go to a
folder of the test's (``remedies.resources.file.ROOT``), and the namespace passes for the machine's
own, so that they are written at all.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Optional

import slim
from forked_cli import be_remedy, nothing
from tracked import remember
from waiting import eventually

from remedies.boot import sysctl_d
from remedies.lab.scenarios import udp_reply_source
from remedies.lab.world import Options, World
from remedies.namespaces import netns
from remedies.resources import file, iptables_legacy
from remedies.transaction import crash_points, guard, rescue, watch
from remedies.transaction.ledger import Begin

NAT = "table ip world { chain post { type nat hook postrouting priority srcnat; masquerade; }; }"
POLICY = """\
apiVersion: remedy/v1
name: faulty
backend: {backend}
persist: true
rules:
  tcp-invalid-reset: {{mode: fix, from: exposed, fixes: [{fix}], accept_harm: [{fix}]}}
"""
REQUIRE = """\
apiVersion: remedy/v1
name: faulty
backend: {backend}
persist: true
rules:
  tcp-invalid-reset: {{mode: off}}
require:
  - fix: notrack
    params: {{protocol: udp, ports: [5060], addresses: [192.0.2.10]}}
    reason: test
"""
REDIRECT = """\
apiVersion: remedy/v1
name: faulty
backend: {backend}
persist: true
rules:
  tcp-invalid-reset: {{mode: off}}
  udp-reply-source: {{mode: fix, from: proven, fixes: [udp-redirect]}}
"""
LEGACY = {"invalid-drop": ("mangle", "nat"), "notrack": ("raw", "filter"), "udp-redirect": ("nat",)}
"""The legacy tables that a fix and its world write."""
WORLDS = (
    ("nftables", "invalid-drop"),
    ("iptables-nft", "invalid-drop"),
    ("iptables-legacy", "invalid-drop"),
    ("nftables", "tcp-be-liberal"),
    ("nftables", "notrack"),
    ("iptables-nft", "notrack"),
    ("iptables-legacy", "notrack"),
    ("nftables", "udp-redirect"),
    ("iptables-nft", "udp-redirect"),
    ("iptables-legacy", "udp-redirect"),
)
"""Every fix that writes, with every backend that it has."""
POLICIES = {"notrack": REQUIRE, "udp-redirect": REDIRECT}
SHORT = 0.4
"""Seconds without a record after which a guard takes a writer that is to be stopped for hung."""
KEY = "net/netfilter/nf_conntrack_tcp_be_liberal"


REACHED = 98
"""The exit code of who ends at any point."""


def end_at_any_point() -> None:
    """Let this process's command line end at the first point: no record, no write is without."""
    crash_points.hit = _reached


def _reached(name: str) -> None:
    os._exit(REACHED)


@dataclass(frozen=True)
class Fault:
    """What happens at the ``at``-th point of the writer, counted from 0."""

    at: int
    kind: str = "kill"
    """``kill``: SIGKILL to the writer; ``both``: to its guard first; ``stop``: SIGSTOP, and its
    guard has little patience (:data:`SHORT`) with it, or with who holds the lock; ``tired``: with
    the latter alone, and nothing goes wrong; or the name of an errno."""
    stays: bool = False
    """Every point of the journal from there on fails, as on a disk that is full."""
    deed: Callable[[], object] = nothing
    """What the writer does there before anything goes wrong."""


@dataclass(frozen=True)
class Done:
    """How one run ended: exit code (negative: the signal), output, and the points it passed."""

    code: int
    out: str
    points: tuple[str, ...]

    @property
    def json(self) -> dict[str, Any]:
        """Return what was printed, as JSON."""
        plain: dict[str, Any] = json.loads(self.out[self.out.index("{") :])
        return plain


@dataclass(frozen=True)
class Host:
    """A namespace with NAT that stands for a host, and its folders."""

    ns: str
    folder: Path
    backend: str = "nftables"
    fix: str = "invalid-drop"
    library: bool = False
    """Write legacy tables with python-iptables, which takes ten times as long."""
    stir: Callable[[], object] = nothing
    """Brings the fault about anew before each apply, where it does not stay by itself."""

    @property
    def state(self) -> Path:
        """Return the state folder of this host."""
        return self.folder / "state" / "host"

    def prepare(self) -> Host:
        """Write the policy, make the folders of boot files, and begin with NAT."""
        policy = POLICIES.get(self.fix, POLICY)
        text = policy.format(backend=self.backend.partition("-")[0], fix=self.fix)
        (self.folder / "policy.yaml").write_text(text)
        for name in file.FOLDERS:
            (self.folder / "root" / name[1:]).mkdir(parents=True)
        (self.folder / "root/run/systemd/system").mkdir(parents=True)
        if self.fix == "udp-redirect":
            return self  # a world of the lab's, with NAT of its own
        if self.fix == "notrack":
            self.sh("ip", "addr", "add", "192.0.2.10/32", "dev", "lo")
            if self.backend == "iptables-legacy":
                self.sh("iptables-legacy", "-A", "INPUT", "-p", "tcp", "--dport", "9")
        elif self.backend == "iptables-legacy":
            self.sh("iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE")
        elif self.backend == "iptables-nft":
            self.sh("iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE")
        else:
            self.sh("nft", NAT)
        return self

    def sh(self, *argv: str) -> str:
        """Run a program in the namespace."""
        with netns.inside(self.ns):
            return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def dump(self) -> dict[str, str]:
        """Return everything that a fix could have changed."""
        found = {"nft": self.sh("nft", "-s", "list", "ruleset")}
        if self.backend == "iptables-legacy":
            # Looking registers a table, and one that is there stays: so each is looked at.
            for program in ("iptables-legacy-save", "ip6tables-legacy-save"):
                for table in LEGACY.get(self.fix, ()):
                    lines = self.sh(program, "-t", table).splitlines()
                    kept = (ln.split(" [")[0] for ln in lines if not ln.startswith("#"))
                    found[f"{program} {table}"] = "\n".join(kept)
        with netns.inside(self.ns):
            found["key"] = Path(f"/proc/sys/{KEY}").read_text()
        for path in sorted((self.folder / "root").rglob("*")):
            if path.is_file():
                found[str(path)] = path.read_text()
        return found

    def run(self, *words: str, fault: Optional[Fault] = None, window: str = "0") -> Done:
        """Run ``remedy WORDS`` here, with a fault or without."""
        options = ["--state-dir", str(self.folder / "state")]
        options += ["--policy", str(self.folder / "policy.yaml")]
        if words[0] in ("apply", "plan", "verify"):
            words = (*words, "--window", window)
        if words[0] == "apply":
            self.stir()
        out, told = self.folder / "out", self.folder / "points"
        told.write_text("")
        argv = [words[0], *options, *words[1:]]
        child = slim.fork(partial(_be_remedy, replace(self, stir=nothing), argv, out, told, fault))
        code = child.wait()
        child.close()
        assert code is not None
        return Done(code, out.read_text(), tuple(told.read_text().splitlines()))

    def guards(self) -> list[str]:
        """Return the FIFOs of guards: one for each that lives or was killed."""
        found = os.listdir(self.state) if self.state.exists() else []
        return [name for name in found if name.startswith("guard-")]

    def forget(self) -> None:
        """Begin with an empty journal again. Nothing of ours may be there."""
        assert json.loads(self.run("status", "--json").out)["in_force"] == []
        shutil.rmtree(self.state)

    def unguarded(self, seconds: float = 20.0) -> None:
        """Wait until the last guard has done its work."""
        eventually(lambda: not self.guards(), seconds, "a guard is at work still")


@contextmanager
def standing(backend: str, fix: str, netns: Callable[..., str], folder: Path) -> Iterator[Host]:
    """Have a host on which this fix is wanted, for the length of a ``with`` block."""
    if fix != "udp-redirect":
        yield Host(netns("host"), folder, backend, fix).prepare()
        return
    nat = "nft" if backend == "nftables" else backend
    with World("udp-reply-source", Options(nat)) as world:
        udp_reply_source.build(world)
        remember(world)
        stir = partial(udp_reply_source.traffic, world)
        yield Host(world.namespace("host"), folder, backend, fix, stir=stir).prepare()


def _be_remedy(
    host: Host, argv: list[str], out: Path, told: Path, fault: Optional[Fault]
) -> NoReturn:
    def prepare() -> None:
        netns.enter(host.ns)
        netns.is_host = lambda: True
        file.ROOT = sysctl_d.ROOT = str(host.folder / "root")
        if host.library:
            iptables_legacy._installed = lambda *_: False
        crash_points.hit = _Hook(told, fault)

    be_remedy(out, None, argv, prepare)


class _Hook:
    """Stands for ``crash_points.hit`` in the writer; its guard passes every point unharmed."""

    def __init__(self, told: Path, fault: Optional[Fault]) -> None:
        self.told = os.open(told, os.O_WRONLY | os.O_APPEND)
        self.fault, self.pid, self.count = fault, os.getpid(), 0
        self.guard = 0
        arm = guard.arm
        if fault is not None and fault.kind in ("stop", "tired"):
            rescue.SITS = SHORT
            watch.STALL = SHORT if fault.kind == "stop" else watch.STALL

        def noted(folder: str, txn: str, begin: Begin, watching: float = 0.0) -> guard.Guard:
            armed = arm(folder, txn, begin, watching)
            self.guard = armed._pid
            with told.with_name("guards").open("a") as pids:
                pids.write(f"{armed._pid}\n")
            return armed

        guard.arm = noted

    def __call__(self, name: str) -> None:
        if os.getpid() != self.pid:
            return
        os.write(self.told, f"{name}\n".encode())
        number, self.count = self.count, self.count + 1
        fault = self.fault
        if fault is None or number < fault.at:
            return
        if number > fault.at and not (fault.stays and "write " not in name):
            return
        if number == fault.at:
            fault.deed()
        if fault.kind == "both" and self.guard:
            os.kill(self.guard, signal.SIGKILL)
            os.waitpid(self.guard, 0)
        if fault.kind in ("kill", "both"):
            os.kill(self.pid, signal.SIGKILL)
        if fault.kind == "stop":
            os.kill(self.pid, signal.SIGSTOP)
            return
        code = getattr(errno, fault.kind)
        raise OSError(code, os.strerror(code))
