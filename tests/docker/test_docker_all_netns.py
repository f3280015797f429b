"""``scan --all-netns`` beside a real daemon: each finding names its container."""

from __future__ import annotations

from docker_host import SLEEP, DockerHost
from docker_remedy import Remedy

MASQUERADE = """\
table ip theirs {
chain postrouting { type nat hook postrouting priority 100
ip saddr 192.0.2.0/24 masquerade
}
}
"""


def test_a_container_is_named(containers: DockerHost, remedy: Remedy) -> None:
    host = containers
    longest = host.container("router", *SLEEP)
    quiet = host.container("quiet", *SLEEP)
    host.run("router", ["nft", "-f", "-"], MASQUERADE)
    words = ("scan", "--all-netns", "--window", "0.2", "--json")
    found = remedy.finish(remedy.start(*words), code=None)
    by_container = {n["container"]: n for n in found["namespaces"] if n["container"]}
    assert {"router", "quiet"} <= set(by_container)
    router = by_container["router"]
    assert router["container_id"] == longest[:12]
    assert by_container["quiet"]["container_id"] == quiet[:12]
    assert [(f["condition"], f["verdict"], f["container"]) for f in router["findings"]] == [
        ("tcp-invalid-reset", "exposed", "router")
    ]
    assert router["netns"].isdigit()
    (daemon,) = [n for n in found["namespaces"] if n["netns_name"] == host.namespace("host")]
    assert daemon["container"] is None
    assert daemon["findings"][0]["netns_name"] == host.namespace("host")
