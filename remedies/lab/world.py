"""A world: throw-away namespaces that hold one fault, removed however their owner ends.

After a normal end, an exception, Ctrl-C, SIGTERM or a hang-up the owner itself removes it;
after SIGKILL the next run does (see :mod:`remedies.lab.registry`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType

from remedies.errors import NotPermitted, RemedyError
from remedies.lab import registry
from remedies.namespaces.netns import inside
from remedies.values import replace

TOOLS = ("ip", "nsenter", "nft")
DEADLINE = 30.0
"""Seconds that an awaited event of a world may take, on a busy machine."""
_LONGER = 20
"""How many times as long traffic waits for what has to come as for what may stay away."""
COMMAND_DEADLINE = 300.0
"""Seconds that a command may take: beside full flow tables on a busy machine, a minute is over."""

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@dataclass(frozen=True)
class Options:
    """Which variant of a scenario is built."""

    nat: str = "nft"
    """One of ``remedies.lab.NATS``: the tool that writes the NAT rule."""
    family: int = 4
    """4 or 6."""
    healthy: bool = False
    """The twin without the fault."""
    backend: str | None = None
    """``--backend`` of the commands that are run against the world; None: their default."""


@dataclass(frozen=True)
class TrafficOutcome:
    """What one attempt of a scenario's traffic came to."""

    alive: bool
    detail: str
    """One line: how far it came, and how it ended."""
    resets: int = 0
    """TCP resets for the connection that reached the server from outside."""


def require_root_and_tools(options: Options) -> None:
    """Raise NotPermitted without root, RemedyError without the commands a world is made of."""
    if os.geteuid() != 0:
        raise NotPermitted("the lab makes network namespaces, which needs root", "use sudo")
    tools = [*TOOLS]
    if options.nat != "nft":
        tools.append(options.nat if options.family == 4 else options.nat.replace("ip", "ip6", 1))
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        raise RemedyError(
            f"the lab needs the command {', '.join(missing)}",
            "install iproute2, util-linux, nftables and iptables",
        )


def child_environment() -> dict[str, str]:
    """Return the environment for child processes: this package importable, plain output.

    What could widen or steer a command (``REMEDY_*``) or make it look remote (``SSH_*``) is
    left out, so that a world behaves the same for everybody.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("REMEDY_", "SSH_", "PYTHON"))
    }
    return {**kept, "PYTHONPATH": _PACKAGE, "NO_COLOR": "1", "COLUMNS": "100"}


class World:
    """The namespaces ``client``, ``host`` and ``server`` of one run, as a context manager."""

    def __init__(self, scenario: str, options: Options) -> None:
        """Describe a world; nothing exists before the ``with`` block."""
        self.scenario = scenario
        self.options = options
        self._marker = registry.Marker(
            "none", scenario, options.nat, options.family, options.healthy
        )
        self._kept = False
        self._children: list[subprocess.Popen[str]] = []
        self._wanted: bool | None = None

    @property
    def id(self) -> str:
        """Return the short id that is part of every name in this world."""
        return self._marker.id

    @classmethod
    def standing(cls, marker: registry.Marker) -> World:
        """Return a world that somebody left up, to be used and not to be removed."""
        world = cls(marker.scenario, Options(marker.nat, marker.family, marker.healthy))
        world._marker = marker
        return world

    @property
    def folder(self) -> str:
        """Return the folder for this world's files, removed with it."""
        return registry.folder(self.id)

    @property
    def remedy(self) -> list[str]:
        """Return the argv prefix that runs this tool against the host of this world."""
        backend = ["--backend", self.options.backend] if self.options.backend else []
        state = ["--state-dir", f"{self.folder}/state"]
        return ["--netns", self.namespace("host"), *state, *backend]

    @contextlib.contextmanager
    def wanted(self, *, alive: bool) -> Iterator[None]:
        """Tell the traffic of this block what it has to come to."""
        self._wanted = alive
        try:
            yield
        finally:
            self._wanted = None

    def patience(self, seconds: float, *, alive: bool = True) -> float:
        """Return how long traffic waits for what shows it alive (else: dead), in seconds.

        ``seconds``: how long where it may stay away. Where it has to come it is given more time:
        whoever sends it may have no processor for a while.
        """
        return seconds * (_LONGER if self._wanted is alive else 1)

    def namespace(self, role: str) -> str:
        """Return the namespace name of ``client``, ``host`` or ``server``."""
        return registry.namespace(self.id, role)

    def __enter__(self) -> World:
        """Make the namespaces, each with ``lo`` up; from here on they are removed."""
        require_root_and_tools(self.options)
        options = self.options
        self._marker, self._lock = registry.create(
            self.scenario, options.nat, options.family, options.healthy
        )
        self._handlers = {
            number: signal.signal(number, _end)
            for number in (signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is signal.SIG_DFL
        }
        try:
            os.mkdir(self.folder, mode=0o700)
            adds = [f"netns add {self.namespace(role)}" for role in registry.ROLES]
            _run(["ip", "-batch", "-"], "\n".join(adds))
            for role in registry.ROLES:
                self.ip(role, "link set lo up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def keep(self) -> None:
        """Leave the world in place after the ``with`` block, until ``remedy lab down``."""
        self._marker = replace(self._marker, up=True)
        registry.write(self._marker, self._lock)
        self._kept = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove everything, uninterrupted, unless the world is kept."""
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
        try:
            if not self._kept:
                registry.remove(self.id)
                for child in self._children:
                    child.wait(DEADLINE)
        finally:
            for child in self._children:
                if child.stdout is not None:
                    child.stdout.close()
            os.close(self._lock)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def ip(self, role: str, *lines: str) -> None:
        """Run lines of iproute2's batch language in a namespace, all or an error."""
        _run(["ip", "-n", self.namespace(role), "-batch", "-"], "\n".join(lines))

    def run(self, role: str, argv: Sequence[str], stdin: str = "") -> str:
        """Run a command in a namespace and return its output; raises RemedyError if it fails."""
        with inside(self.namespace(role)):
            return _run(argv, stdin)

    def entering(self, role: str) -> list[str]:
        """Return the argv prefix that runs a command in a namespace."""
        return ["nsenter", f"--net=/run/netns/{self.namespace(role)}", "--"]

    def sysctl(self, role: str, key: str, value: str | None = None) -> str:
        """Write ``net.*`` key in a namespace where a value is given; return what it is then."""
        path = "/proc/sys/" + key.replace(".", "/")
        with inside(self.namespace(role)):
            if value is not None:
                with open(path, "w", encoding="ascii") as file:
                    file.write(value)
            with open(path, encoding="ascii") as file:
                return file.read().strip()

    def socket(self, role: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Open a socket that belongs to a namespace; the caller closes it."""
        with inside(self.namespace(role)):
            return socket.socket(family, kind, protocol)

    def start(self, role: str, argv: Sequence[str]) -> subprocess.Popen[str]:
        """Start a Python module as a process in a namespace; returns once it says ``ready``.

        Its own session keeps a Ctrl-C at the terminal for us to handle.
        """
        child = subprocess.Popen(
            [*self.entering(role), sys.executable, "-m", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=child_environment(),
            start_new_session=True,
        )
        self._children.append(child)
        assert child.stdout is not None  # noqa: S101 - stdout=PIPE above
        ready, _, _ = select.select([child.stdout], [], [], DEADLINE)
        said = child.stdout.readline() if ready else "no output in time"
        if said.strip() != "ready":
            raise RemedyError(f"{' '.join(argv)} did not start: {said.strip()}")
        return child

    def stop_all(self) -> None:
        """End the processes that :meth:`start` made."""
        for child in self._children:
            child.terminate()
            child.wait(DEADLINE)

    def await_links(self, **links: Sequence[str]) -> None:
        """Bring links up and wait until the kernel says that they carry traffic.

        Keyword: role, value: link names. Waits on rtnetlink's link group; raises RemedyError
        after ``DEADLINE``.
        """
        with contextlib.ExitStack() as stack:
            listeners = {}
            for role, names in links.items():
                listener = stack.enter_context(
                    self.socket(role, socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
                )
                listener.bind((0, 1))  # RTMGRP_LINK, include/uapi/linux/rtnetlink.h
                listeners[role] = listener
                self.ip(role, *(f"link set {name} up" for name in names))
            until = time.monotonic() + DEADLINE
            for role, names in links.items():
                while waiting := [name for name in names if not self._carries(role, name)]:
                    if not select.select([listeners[role]], [], [], until - time.monotonic())[0]:
                        raise RemedyError(f"links {', '.join(waiting)} of {role} stay down")
                    listeners[role].recv(65536)

    def _carries(self, role: str, link: str) -> bool:
        shown = json.loads(self.run(role, ["ip", "-j", "link", "show", "dev", link]))
        return bool(shown[0]["operstate"] == "UP")


def _end(number: int, frame: FrameType | None) -> None:
    """Turn a signal into the ordinary way out, so that every ``with`` block is left."""
    raise SystemExit(128 + number)


def overdue(argv: Sequence[str]) -> RemedyError:
    """Return what is said of a command that is not done after :data:`COMMAND_DEADLINE`."""
    return RemedyError(
        f"{' '.join(argv)}: not done after {COMMAND_DEADLINE:g} s",
        "try again once this machine is less busy",
    )


def _run(argv: Sequence[str], stdin: str) -> str:
    """Run a command; return its output; raise RemedyError with its own words."""
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, timeout=COMMAND_DEADLINE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise overdue(argv) from error
    except OSError as error:  # there is no such program
        raise RemedyError(f"{argv[0]}: {error.strerror}") from error
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().replace("\n", "; ")
        raise RemedyError(f"{' '.join(argv)}: {words or f'exit {done.returncode}'}")
    return done.stdout
