"""One process, as /proc/PID describes it. Not a probe: those that find a process use it."""

from __future__ import annotations

from remedies.values import dataclass

_LONGEST_ARGV = 4096
_CONTAINER = r"(?:^|[/:-])([0-9a-f]{64})(?:\.scope)?(?=/|$)"


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


def process(pid: int) -> Process:
    """Return name, arguments, unit and container of a process; empty where it is gone."""
    unit, container = placement(_content(pid, "cgroup"))
    argv = _content(pid, "cmdline").split("\0")[:-1]
    return Process(
        pid=pid,
        name=_content(pid, "comm").rstrip("\n"),
        argv=tuple(argv),
        unit=unit,
        container=container,
    )


def _content(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST_ARGV)
    except OSError:
        return ""


def placement(cgroups: str) -> tuple[str, str]:
    """Return systemd unit and container id (12 digits) that a /proc/PID/cgroup names.

    The unit is the innermost ``.service``, else the innermost ``.scope`` that is no container's.
    Both cgroup versions are read: lines are ``number:controllers:path`` (cgroups(7)).
    """
    import re  # milliseconds that only who asks about a process pays for

    paths = [line.split(":", 2)[2] for line in cgroups.splitlines() if line.count(":") >= 2]
    inside = next(
        (found.group(1) for found in (re.search(_CONTAINER, path) for path in paths) if found), ""
    )
    parts = [
        part
        for path in paths
        for part in reversed(path.split("/"))
        if not (inside and inside in part)
    ]
    unit = next((part for part in parts if part.endswith(".service")), "")
    if not unit and not inside:
        unit = next((part for part in parts if part.endswith(".scope")), "")
    return unit, inside[:12]
