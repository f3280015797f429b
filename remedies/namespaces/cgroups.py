"""Where a process belongs, by its control groups: unit, container, pod. Pure."""

from __future__ import annotations

import re

_CONTAINER = r"(?:^|[/:-])([0-9a-f]{64})(?:\.scope)?(?=/|$)"
_POD = r"(?m)kubepods\S*[/-]pod([0-9A-Za-z_-]+)(?:\.slice)?(?=/|$)"


def placement(cgroups: str) -> tuple[str, str]:
    """Return systemd unit and container id (12 digits) that a /proc/PID/cgroup names.

    The unit is the innermost ``.service``, else the innermost ``.scope`` that is no container's.
    Both cgroup versions are read: lines are ``number:controllers:path`` (cgroups(7)).
    """
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


def pod(cgroups: str) -> str:
    """Return the uid of the pod of Kubernetes that a /proc/PID/cgroup names, or empty.

    Its folder is ``podUID`` or, with systemd, ``kubepods-QOS-podUID.slice`` with underscores in
    the uid (kubernetes: pkg/kubelet/cm/pod_container_manager_linux.go, cgroup_manager_linux.go).
    """
    found = re.search(_POD, cgroups)
    return found.group(1).replace("_", "-") if found else ""
