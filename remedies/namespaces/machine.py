"""The machine that this process runs on, as a container that shares its processes sees it.

Process 1 is the machine's where a container has the machine's process namespace (hostPID, docker
run --pid=host): its network namespace is then the machine's, and its root the machine's files.
"""

from __future__ import annotations

import os

from remedies.errors import NotPermitted, UsageError
from remedies.namespaces.cgroups import placement
from remedies.values import dataclass

SPEC = "host"
"""What ``--netns`` takes for the machine's own network namespace."""
NET = "/proc/1/ns/net"
_FIRST_PROCESSES = 0xEFFFFFFC  # PROC_PID_INIT_INO of include/linux/proc_ns.h
_SECURITY = "it has that, so a security module forbids it: run it unconfined by AppArmor or SELinux"


@dataclass(frozen=True)
class Capability:
    """A right that reading the whole machine needs."""

    name: str
    bit: int
    """include/uapi/linux/capability.h"""
    purpose: str


NEEDED = (
    Capability("CAP_DAC_READ_SEARCH", 2, "other users' sockets"),
    Capability("CAP_NET_ADMIN", 12, "rules and flows"),
    Capability("CAP_NET_RAW", 13, "packets"),
    Capability("CAP_SYS_PTRACE", 19, "whose a namespace or a socket is"),
    Capability("CAP_SYS_ADMIN", 21, "other namespaces, dropped packets"),
)
"""What a watch of a whole machine needs, and no more."""


def missing(needed: tuple[Capability, ...] = NEEDED) -> tuple[Capability, ...]:
    """Return those that this process does not have."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        line = next(line for line in status if line.startswith("CapEff:"))
    effective = int(line.split()[1], 16)
    return tuple(each for each in needed if not effective >> each.bit & 1)


def demand(needed: tuple[Capability, ...] = NEEDED) -> None:
    """Raise NotPermitted, naming what this process lacks and what each is for."""
    lacking = missing(needed)
    if lacking:
        named = ", ".join(f"{each.name} ({each.purpose})" for each in lacking)
        raise NotPermitted(
            f"not permitted to see all of this machine: without {named}",
            "run as root; in a container, add these capabilities",
        )


def path() -> str:
    """Return the file of the machine's own network namespace.

    Raises NotPermitted where process 1 may not be looked at, and UsageError where it may be of a
    container itself. In the kernel's first process namespace it never is; in another one it must
    be in no container's control group, and have other files or another network than we have.
    """
    try:
        its = os.stat(NET)
    except PermissionError as error:
        ptrace = tuple(each for each in NEEDED if each.name == "CAP_SYS_PTRACE")
        why = "run with CAP_SYS_PTRACE" if missing(ptrace) else f"CAP_SYS_PTRACE: {_SECURITY}"
        raise NotPermitted(f"process 1 may not be looked at ({NET})", why) from error
    if os.stat("/proc/self/ns/pid").st_ino == _FIRST_PROCESSES:
        return NET
    ours = not ROOT and os.path.samestat(its, os.stat("/proc/thread-self/ns/net"))
    if ours or _contained():
        raise UsageError(
            "--netns host: process 1 may be this container's own and not the machine's",
            "start the container with hostPID: true (docker run --pid=host); on the machine "
            "itself, leave --netns out",
        )
    return NET


def _contained() -> bool:
    """Tell whether process 1 is a container's, by its control groups."""
    with open("/proc/1/cgroup", encoding="utf-8", errors="replace") as file:
        return bool(placement(file.read(65536))[1])


def _root() -> str:
    """Return where the machine's files are: nowhere else than ours, unless process 1 has others."""
    try:
        same = os.path.samestat(os.stat("/proc/1/root"), os.stat("/"))
    except OSError:  # not to be looked at: then it is no container that was given the machine
        return ""
    return "" if same else "/proc/1/root"


ROOT = _root()
"""What stands before a path to have that of the machine: empty but in a container."""
