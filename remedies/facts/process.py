"""One process, as /proc/PID describes it. Not a probe: those that find a process use it."""

from __future__ import annotations

from remedies.namespaces.cgroups import placement, pod
from remedies.values import dataclass

_LONGEST_ARGV = 4096


@dataclass(frozen=True)
class Process:
    """Who holds a socket."""

    pid: int
    name: str
    """comm, at most 15 bytes."""
    argv: tuple[str, ...] = ()
    unit: str = ""
    """systemd unit from the cgroup path, or empty."""
    container: str = ""
    """Container id (12 hex digits) from the cgroup path, or empty."""
    pod: str = ""
    """Uid of the pod of Kubernetes from the cgroup path, or empty."""


def process(pid: int) -> Process:
    """Return name, arguments, unit and container of a process; empty where it is gone."""
    cgroups = _content(pid, "cgroup")
    unit, container = placement(cgroups)
    argv = _content(pid, "cmdline").split("\0")[:-1]
    return Process(
        pid=pid,
        name=_content(pid, "comm").rstrip("\n"),
        argv=tuple(argv),
        unit=unit,
        container=container,
        pod=pod(cgroups),
    )


def _content(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST_ARGV)
    except OSError:
        return ""
