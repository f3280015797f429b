"""The image, run with exactly the privileges that the DaemonSet gives it.

It finds what is wrong with the machine, not with its own network, and refuses a wrong start.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import container_image
import package
import pytest
import yaml
from docker_host import SLEEP
from forked_cli import forked
from node import Node, arguments, daemon_set, privileges
from watching import LiveWatch

from remedies.namespaces import machine
from remedies.namespaces.netns import inside

NAT = """\
table ip theirs {
chain postrouting { type nat hook postrouting priority 100
ip saddr 192.0.2.0/24 masquerade
}
}
"""
OWN = """\
table ip theirs {
chain raw { type filter hook prerouting priority -300
udp dport 514 notrack
}
chain nat { type nat hook prerouting priority -100
udp dport 514 redirect to :5514
}
}
"""
OWN_CONDITION = "notrack-breaks-nat"
SANDBOX = "{{.NetworkSettings.SandboxKey}}"
CONDITION = "tcp-invalid-reset"
QUICK = ("--interval=1s", "--window=0.2s", "--json")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Give a node that has the image."""
    built = container_image.build(
        tmp_path_factory.mktemp("image") / "layout", package.shared(tmp_path_factory)
    )
    with Node() as made:
        made.layout, made.image = built, made.load(built)
        yield made


@pytest.fixture
def state(node: Node) -> Path:
    """Give the folder that stands for /var/lib/remedy of the node."""
    path = Path(node.place) / "state"
    path.mkdir(exist_ok=True)
    return path


@contextlib.contextmanager
def watching(node: Node, state: Path) -> Iterator[LiveWatch]:
    """Run the pod's container."""
    pod = daemon_set()
    words = [*privileges(pod, state), node.image, *arguments(pod), *QUICK]
    node.docker("run", "--detach", "--name=watch", *words)
    with node.follow("watch") as child:
        try:
            yield LiveWatch(child)
        finally:
            node.remove("watch")


def remedy(node: Node, *words: str) -> dict[str, Any]:
    """Run a command as a person does in the pod."""
    return dict(json.loads(node.docker("exec", "watch", "remedy", "--json", *words)))


def conditions(scanned: dict[str, Any]) -> set[str]:
    return {each["condition"] for each in scanned["findings"]}


def asked(node: Node, path: str) -> str:
    """Return what the pod answers to the node, as the kubelet asks it."""
    with inside(node.namespace("host")):
        where = f"http://{node.address_of('watch')}:9720{path}"
        with urllib.request.urlopen(where, timeout=10) as answer:
            return str(answer.read().decode())


def test_it_sees_the_machine_and_its_neighbours_not_itself(node: Node, state: Path) -> None:
    """Docker's own NAT is the machine's fault; the same is put in a neighbour and in the pod."""
    node.container("neighbour", *SLEEP)
    with watching(node, state) as watch:
        seen = watch.await_line(kind="watch-event", condition=CONDITION)
        assert (seen["netns_key"], seen["netns"], seen["container"]) == ("host", None, None)
        assert watch.await_line(kind="watch-ready")["unknown"] == 0
        node.run("neighbour", ["nft", "-f", "-"], NAT)
        seen = watch.await_line(kind="watch-event", condition=CONDITION)
        id_ = node.docker("inspect", "-f", "{{.Id}}", "neighbour")
        assert (seen["event"], seen["container"]) == ("appeared", id_[:12])

        own = f"/proc/{node.first}/root{node.docker('inspect', '-f', SANDBOX, 'watch')}"
        with inside(own):
            subprocess.run(["nft", "-f", "-"], input=OWN, text=True, check=True)
        assert OWN_CONDITION in conditions(forked(own, state / "own", "scan", "--window=0"))
        scanned = remedy(node, "scan", "--window=0", "--fail-on=proven")
        assert scanned["host"]["netns"] == "host"
        assert scanned["host"]["name"] == Path("/etc/hostname").read_text().strip()
        assert conditions(scanned) == {CONDITION}
        machine_id = Path("/etc/machine-id").read_text().strip()
        assert scanned["host"]["machine_id"] == machine_id
        answer = remedy(node, "check", "--format=npd", CONDITION)
        assert (answer["state"], answer["code"]) == ("ok", 0)

        planned = remedy(node, "plan", "--window=0")
        assert planned["policy"]["names"] == ["kubernetes-node"], "of the watch and of each command"
        written = {each["resource"].partition(":")[0] for each in planned["changes"]}
        assert written == {"sysctl", "file"}, "what the machine has in /etc is what counts"
        words = ("exec", "watch", "remedy", "apply", "--yes")
        refused = node.client(*words)
        assert (refused.returncode, refused.stdout) == (77, b"")

        assert asked(node, "/healthz") == "ok\n"
        state_set = f'remedy_condition_status{{condition="{CONDITION}",verdict="exposed"}} 1'
        assert state_set in asked(node, "/metrics")
        node.docker("stop", "watch")
    assert (state / "watch/all.json").exists(), "what is known outlives the pod"
    with watching(node, state) as watch:
        assert watch.await_line(kind="watch")["known"] >= 2


def test_nothing_of_the_machine_that_builds_it_is_in_the_image(node: Node) -> None:
    (entry,) = json.loads((node.layout / "manifest.json").read_text())
    (layer,) = entry["Layers"]
    with tarfile.open(node.layout / layer) as archive:
        entries = archive.getmembers()
    names = {each.name for each in entries}
    assert "usr/bin/remedy" in names
    assert not {"etc/hostname", "etc/resolv.conf", "etc/machine-id", "usr/bin/sh"} & names
    assert {(each.uid, each.gid) for each in entries} == {(0, 0)}
    assert [each.name for each in entries if each.isdev()] == []


def test_kubectl_makes_what_the_image_is(node: Node) -> None:
    kubectl = package.PROJECT / "build/kubernetes/usr/bin/kubectl"
    made = subprocess.run(
        [kubectl, "kustomize", container_image.KUBERNETES],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    found = {each["kind"]: each for each in yaml.safe_load_all(made)}
    assert {*found} == {"Namespace", "ServiceAccount", "NetworkPolicy", "DaemonSet"}
    (container,) = found["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == node.image


def test_it_refuses_a_wrong_start_and_says_what_is_missing(node: Node, state: Path) -> None:
    pod = daemon_set()
    right = privileges(pod, state)
    for option, code, said in [
        ("--pid=host", 64, "hostPID: true"),
        (f"--volume={state}:/var/lib/remedy", 77, "/var/lib/remedy"),
        *((f"--cap-add={each.name[4:]}", 77, each.name) for each in machine.NEEDED),
    ]:
        assert option in right
        words = [word for word in right if word != option]
        done = node.client("run", "--rm", *words, node.image, *arguments(pod))
        (line,) = done.stderr.decode().splitlines()
        assert (done.returncode, done.stdout) == (code, b"")
        assert line.startswith("remedy: ")
        assert said in line
    added = [word for word in right if word.startswith("--cap-add=")]
    assert len(added) == len(machine.NEEDED), "and nothing is given that is not needed"
