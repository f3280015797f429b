"""Which worlds exist, who owns them, and how one is taken away.

Everything a world holds follows from its id, so nothing has to be recorded before it is made:
namespaces ``rl-<id>-<role>``, the processes inside them, the folder ``<id>.files`` and the
marker ``/run/remedy-lab/<id>``. The owner holds an flock on the marker for as long as it lives;
a marker that can be locked and is not ``up`` (kept on purpose) belongs to a run that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Optional

from remedies.errors import InputError, NotPermitted, RemedyError, UsageError
from remedies.namespaces.netns import RUN_DIR
from remedies.values import replace

FOLDER = "/run/remedy-lab"
PREFIX = "rl"
ROLES = ("client", "host", "server")
GRACE = 2.0
"""Seconds that a process of a world has to end after SIGTERM, before SIGKILL."""
_KILLED = 30.0
"""Seconds that SIGKILL may take: each needs the processor once more, beside all else that runs."""


@dataclass(frozen=True)
class Marker:
    """What a marker file says of its world."""

    id: str
    scenario: str
    nat: str
    family: int
    healthy: bool
    up: bool = False
    """Kept on purpose: only ``lab down`` removes it."""

    @property
    def path(self) -> str:
        """Return the marker's own file."""
        return f"{FOLDER}/{self.id}"


def namespace(world: str, role: str) -> str:
    """Return the name of one namespace of world ``world``."""
    return f"{PREFIX}-{world}-{role}"


def folder(world: str) -> str:
    """Return the folder for the files of world ``world``: its state, its policies."""
    return f"{FOLDER}/{world}.files"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep other labs from making or sweeping worlds; raises NotPermitted without root."""
    try:
        os.makedirs(FOLDER, mode=0o700, exist_ok=True)
        descriptor = os.open(f"{FOLDER}/.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise NotPermitted(f"cannot write {FOLDER}", "run as root") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def create(scenario: str, nat: str, family: int, healthy: bool) -> tuple[Marker, int]:
    """Make the marker of a new world; returns it and the descriptor that holds its lock."""
    with _alone():
        marker = Marker(secrets.token_hex(2), scenario, nat, family, healthy)
        while _stands(marker):
            marker = replace(marker, id=secrets.token_hex(2))
        descriptor = os.open(marker.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write(marker, descriptor)
    return marker, descriptor


def _stands(marker: Marker) -> bool:
    """Tell whether a world has this id: namespaces may be there whose marker is kept elsewhere."""
    namespaces = (f"{RUN_DIR}/{namespace(marker.id, role)}" for role in ROLES)
    return any(map(os.path.lexists, (marker.path, *namespaces)))


def write(marker: Marker, descriptor: int) -> None:
    """Replace the content of a marker that is held open."""
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(asdict(marker)).encode(), 0)


def find(world: str) -> Marker:
    """Return the marker of one world by its id; raises UsageError where there is none."""
    for marker in worlds():
        if marker.id == world:
            return marker
    raise UsageError(f"no world has the id {world!r}", "see: remedy lab list")


def _read(name: str) -> Optional[tuple[int, Marker]]:
    """Return when a marker was last written (ns) and what it says; None where it has gone."""
    try:
        with open(f"{FOLDER}/{name}", encoding="utf-8") as file:
            return os.fstat(file.fileno()).st_mtime_ns, Marker(**json.load(file))
    except FileNotFoundError:  # another run has taken its world away since
        return None
    except json.JSONDecodeError:  # its maker was killed before it had written
        return 0, Marker(name, "?", "?", 0, False)
    except TypeError as error:
        raise InputError(f"{FOLDER}/{name} is not a marker of a world: {error}") from error


def worlds() -> tuple[Marker, ...]:
    """Return the marker of every world there is, oldest first."""
    try:
        names = [name for name in os.listdir(FOLDER) if "." not in name]
    except FileNotFoundError:
        return ()
    except PermissionError as error:
        raise NotPermitted(f"cannot read {FOLDER}", "run as root") from error
    found = [read for read in map(_read, names) if read]
    return tuple(marker for _, marker in sorted(found, key=lambda read: read[0]))


def sweep(*, kept: bool = False, only: str = "") -> tuple[Marker, ...]:
    """Remove worlds whose owner is gone, and return them.

    ``kept`` also removes those left up on purpose; ``only`` limits it to one id or scenario.
    A world whose owner lives is never touched.
    """
    removed = []
    with _alone():
        for marker in worlds():
            if (marker.up and not kept) or (only and only not in (marker.id, marker.scenario)):
                continue
            # Its owner takes it away meanwhile, or lives.
            gone_or_held = contextlib.suppress(FileNotFoundError, BlockingIOError)
            with gone_or_held, open(marker.path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file.fileno()).st_nlink:
                    remove(marker.id)
                    removed.append(marker)
    return tuple(removed)


def processes(world: str) -> tuple[int, ...]:
    """Return the ids of the processes inside the namespaces of ``world``, never our own."""
    inside = set()
    for role in ROLES:
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(f"{RUN_DIR}/{namespace(world, role)}")
            inside.add((status.st_dev, status.st_ino))
    found = []
    for name in os.listdir("/proc"):
        # It may end between listing and look; one that root may not look at is none of ours.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if name.isdigit() and int(name) != os.getpid():
                status = os.stat(f"/proc/{name}/ns/net")
                if (status.st_dev, status.st_ino) in inside:
                    found.append(int(name))
    return tuple(found)


def _end(world: str) -> None:
    """End every process of ``world``: SIGTERM, then SIGKILL for what stays past ``GRACE``."""
    handles: dict[int, int] = {}
    try:
        for pid in processes(world):
            with contextlib.suppress(ProcessLookupError):
                handles[pid] = os.pidfd_open(pid)
        # Opened first and asked again after: a handle cannot come to mean another process.
        alive = {handles[pid] for pid in processes(world) if pid in handles}
        for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, _KILLED)):
            for handle in alive:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
            _await_end(alive, patience)
        if alive:
            raise RemedyError(f"world {world} holds processes that SIGKILL does not end")
    finally:
        for handle in handles.values():
            os.close(handle)


def _await_end(alive: set[int], patience: float) -> None:
    """Take out of ``alive`` the process handles that become readable within so many seconds.

    Those that are readable count, also where this process had no processor for all that time.
    """
    poller = select.poll()
    for handle in alive:
        poller.register(handle, select.POLLIN)
    until = time.monotonic() + patience
    while alive and (ended := poller.poll(max(0.0, until - time.monotonic()) * 1000)):
        for handle, _ in ended:
            poller.unregister(handle)
            alive.discard(handle)


def _unmount_below(place: str) -> None:
    """Unmount what was mounted in ``place`` (a guard holds its namespace by a bind mount)."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        points = [line.split()[4] for line in file]
    for point in reversed(points):
        if point.startswith(place + "/"):
            subprocess.run(["umount", point], check=True, capture_output=True)


def remove(world: str) -> None:
    """Take a world away: its processes, namespaces, files, and the marker last.

    Raises RemedyError naming what could not be removed; the marker then stays, so that the
    next sweep tries again.
    """
    _end(world)
    files = folder(world)
    try:
        _unmount_below(files)
        for role in ROLES:
            name = namespace(world, role)
            if os.path.exists(f"{RUN_DIR}/{name}"):
                subprocess.run(
                    ["ip", "netns", "del", name], check=True, capture_output=True, text=True
                )
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(files)
        os.unlink(f"{FOLDER}/{world}")
    except (subprocess.CalledProcessError, OSError) as error:
        raise RemedyError(
            f"world {world} could not be removed completely: {error}", "try: remedy lab down --all"
        ) from error
