"""A node of Kubernetes as far as a container sees it, and the pod's privileges for Docker.

The daemon is process 1 of a process namespace, so for a container with ``--pid=host`` it is the
machine's, in the namespace that the world calls ``host``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import container_image
import yaml
from docker_host import _PRIVATE, DockerHost

from remedies.lab.world import Options


class Node(DockerHost):
    """A Docker host that is a machine of its own."""

    unshared = ("--mount", "--propagation", "slave", "--pid", "--fork", "--kill-child",
                "--mount-proc")  # fmt: skip
    private = (*_PRIVATE, "/run/netns")

    def __init__(self) -> None:
        super().__init__(Options("nft", 4), "iptables-nft")
        self.image, self.layout = "", Path()
        """The image that it has: its name, and where it was loaded from."""

    @property
    def first(self) -> int:
        """Return the number of its process 1, out here."""
        assert self._daemon is not None
        path = Path(f"/proc/{self._daemon.pid}/task/{self._daemon.pid}/children")
        return int(path.read_text().split()[0])

    def locate(self, name: str, role: str = "") -> int:
        """Return the process id of a container out here, and remember it."""
        inner = self.docker("inspect", "-f", "{{.State.Pid}}", name)
        self._pids[role or name] = next(pid for pid in _descendants(self.first)
                                        if _number_in_its_own(pid) == inner)  # fmt: skip
        return self._pids[role or name]

    def follow(self, name: str) -> subprocess.Popen[bytes]:
        """Return a process that prints what a container prints, until that ends."""
        return subprocess.Popen(
            ["docker", "logs", "--follow", name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self._environment(), "DOCKER_HOST": self.address},
        )

    def load(self, layout: Path) -> str:
        """Load an image layout, and return the image's name."""
        packed = subprocess.run(["tar", "-C", layout, "-c", "."], capture_output=True, check=True)
        return self.docker("load", stdin=packed.stdout).split("Loaded image: ")[1]


def _descendants(pid: int) -> Iterator[int]:
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            yield from _descendants(int(child))


def _number_in_its_own(pid: int) -> str:
    """Return a process's number in its innermost process namespace (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[2] for line in lines if line.startswith("NSpid:"))


def daemon_set() -> dict[str, Any]:
    """Return the pod's specification."""
    documents = yaml.safe_load_all((container_image.KUBERNETES / "daemonset.yaml").read_text())
    (only,) = documents
    return dict(only["spec"]["template"]["spec"])


def arguments(pod: dict[str, Any]) -> list[str]:
    """Return what its container is given to run, listening on each of its addresses."""
    (container,) = pod["containers"]
    return [word.replace("$(POD_IP)", "0.0.0.0") for word in container["args"]]


def privileges(pod: dict[str, Any], state: Path) -> list[str]:
    """Return the options of 'docker run' that give a container what its pod gives it, and no more.

    ``state`` stands for the node's folder. What is not known here raises KeyError.
    """
    (container,) = pod["containers"]
    words = []
    for name, value in container["securityContext"].items():
        words += _SECURITY[name](value)
    words += [f"--env={each['name']}={each['value']}" for each in container["env"]
              if "value" in each]  # fmt: skip
    words += ["--pid=host"] if pod.get("hostPID") else []
    assert not {"hostNetwork", "hostIPC", "shareProcessNamespace", "securityContext"} & {*pod}
    (volume,) = pod["volumes"]
    (mount,) = container["volumeMounts"]
    assert (volume["name"], volume["hostPath"]["path"]) == (mount["name"], mount["mountPath"])
    return [*words, f"--volume={state}:{mount['mountPath']}"]


def _seccomp(value: dict[str, str]) -> list[str]:
    assert value == {"type": "RuntimeDefault"}
    return []


def _apparmor(value: dict[str, str]) -> list[str]:
    assert value == {"type": "Unconfined"}
    return ["--security-opt=apparmor=unconfined"]


_SECURITY = {
    "runAsUser": lambda user: [f"--user={user}"],
    "privileged": lambda on: ["--privileged"] if on else [],
    "allowPrivilegeEscalation": lambda on: [] if on else ["--security-opt=no-new-privileges"],
    "readOnlyRootFilesystem": lambda on: ["--read-only"] if on else [],
    "capabilities": lambda of: [
        *(f"--cap-drop={name}" for name in of["drop"]),
        *(f"--cap-add={name}" for name in of["add"]),
    ],
    "seccompProfile": _seccomp,
    "appArmorProfile": _apparmor,
}
