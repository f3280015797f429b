"""Every network namespace of this machine: those with processes, and those with a name.

A namespace is told by device and inode of its file in nsfs (namespaces(7), *The /proc/pid/ns/
directory*; ioctl_ns(2) for its kind). A thread may leave its process's namespace; threads are not
looked at one by one.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

from remedies.errors import UsageError
from remedies.namespaces import machine, netns
from remedies.namespaces.cgroups import placement
from remedies.namespaces.netns import CLONE_NEWNET, RUN_DIR
from remedies.values import dataclass, field

NAMED = (RUN_DIR, "/run/docker/netns")
"""Where names are bind-mounted: ip-netns(8) and most container engines; Docker's sandboxes, of
which Swarm's hold addresses and rules and no process."""
PATHS = 8
"""How many ways into one namespace are remembered: each process of it may end."""

_NS_GET_NSTYPE = 0xB703  # include/uapi/linux/nsfs.h, since Linux 4.11
_OWN = "/proc/thread-self/ns/net"
_TOLD = 3
"""Processes that are named of those whose namespace may not be seen."""

Key = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True)
class Namespace:
    """One network namespace, how to get into it, and who lives in it."""

    inode: int
    device: int
    paths: tuple[str, ...]
    """Files that stand for it, the most lasting first; each may be gone by the time it is used."""
    name: str = ""
    """Its name in /run/netns, or the whole path where it has a name elsewhere; else empty."""
    containers: tuple[str, ...] = ()
    """Ids (12 digits) of the containers whose processes are in it, the oldest process first."""
    own: bool = False
    """It is the one this process is in."""

    @property
    def spec(self) -> str:
        """Return what ``--netns`` takes for it: its name, else a process of it."""
        if self.name == machine.SPEC:  # which is not short for this one
            return f"{machine.ROOT}{RUN_DIR}/{self.name}"
        if "/" in self.name:
            return machine.ROOT + self.name
        return self.name or self.paths[0].split("/")[2]


@dataclass
class _Found:
    names: list[str] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)


def own() -> Namespace:
    """Return the namespace that this thread is in, without a look at any other."""
    return _namespace(_key(_OWN), _Found(), own=True)


def find() -> tuple[tuple[Namespace, ...], tuple[str, ...]]:
    """Return every namespace, this process's own first, and why some could not be seen."""
    mine = _key(_OWN)
    found: dict[Key, _Found] = {mine: _Found()}
    for folder in NAMED:
        for path, key in _named(folder):
            found.setdefault(key, _Found()).names.append(path)
    hidden: list[int] = []
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            found.setdefault(_key(f"/proc/{pid}/ns/net"), _Found()).pids.append(pid)
        except PermissionError:
            hidden.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended in between
    unread = (_not_permitted(hidden),) if hidden else ()
    return tuple(_namespace(key, seen, own=key == mine) for key, seen in found.items()), unread


def _not_permitted(pids: list[int]) -> str:
    """Say whose namespaces could not be seen: some of the processes by name, and how many more."""
    whose = ", ".join(f"{pid}{_command(pid)}" for pid in pids[:_TOLD])
    more = f" and {len(pids) - _TOLD} more" if len(pids) > _TOLD else ""
    hint = "" if os.geteuid() == 0 else "; run as root"
    return f"namespaces of processes {whose}{more}: not permitted{hint}"


def _command(pid: int) -> str:
    """Return a process's name in brackets; "" where it has ended."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return f" ({file.read(64).strip()})"
    except OSError:
        return ""


def _key(path: str) -> Key:
    info = os.stat(path)
    return info.st_dev, info.st_ino


def _named(folder: str) -> Iterator[tuple[str, Key]]:
    """Yield path and key of the names in a folder that stand for network namespaces.

    A name whose mount is gone is an ordinary file, and is passed over.
    """
    try:
        names = sorted(os.listdir(machine.ROOT + folder))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    for name in names:
        path = f"{folder}/{name}"
        try:
            descriptor = os.open(machine.ROOT + path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:  # removed in between, or not ours to read: entering it would fail, too
            continue
        try:
            if fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == CLONE_NEWNET:
                info = os.fstat(descriptor)
                yield path, (info.st_dev, info.st_ino)
        except OSError:  # ENOTTY: no namespace
            continue
        finally:
            os.close(descriptor)


def _namespace(key: Key, seen: _Found, *, own: bool) -> Namespace:
    paths = [machine.ROOT + name for name in seen.names]
    paths += [f"/proc/{pid}/ns/net" for pid in seen.pids]
    short = [path[len(RUN_DIR) + 1 :] for path in seen.names if path.startswith(RUN_DIR + "/")]
    return Namespace(
        inode=key[1],
        device=key[0],
        paths=(_OWN,) if own else tuple(paths[:PATHS]),
        name=(short or seen.names or [""])[0],
        containers=() if own else _containers(seen.pids),
        own=own,
    )


def _containers(pids: list[int]) -> tuple[str, ...]:
    """Return the containers that processes belong to, by their cgroups."""
    ids: dict[str, None] = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
                container = placement(file.read(65536))[1]
        except OSError:  # it ended in between
            continue
        if container:
            ids[container] = None
    return tuple(ids)


def still_there(namespace: Namespace) -> bool:
    """Tell whether one of the ways into a namespace still leads there."""
    return any(_leads(path, namespace) for path in namespace.paths)


def _leads(path: str, namespace: Namespace) -> bool:
    try:
        return _key(path) == (namespace.device, namespace.inode)
    except (FileNotFoundError, ProcessLookupError):
        return False


def enter(namespace: Namespace) -> bool:
    """Move this thread into a namespace for good; False where it has ended.

    Pids and names are used again, so what was entered is compared with what was meant. Raises
    NotPermitted without CAP_SYS_ADMIN.
    """
    for path in namespace.paths:
        if not _leads(path, namespace):
            continue
        try:
            if not namespace.own:
                netns.enter(path)
        except UsageError:  # it ended just now
            continue
        if _leads(_OWN, namespace):
            return True
    return False
