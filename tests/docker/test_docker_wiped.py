"""Docker's NAT rules flushed under it, and made again."""

from __future__ import annotations

from docker_host import SLEEP, DockerHost
from docker_remedy import Remedy


def test_somebody_flushes_what_docker_made(containers: DockerHost, remedy: Remedy) -> None:
    host, words = containers, (*remedy.netns, "scan", "--window", "0.1", "--json")
    tool = f"iptables-{'legacy' if host.options.nat == 'iptables-legacy' else 'nft'}"
    host.container("client", *SLEEP)

    def found() -> list[tuple[str, str]]:
        scanned = remedy.finish(remedy.start(*words), code=None)
        told = [f for f in scanned["findings"] if f["condition"] == "ruleset-wiped"]
        return [(f["verdict"], f["message"]) for f in told]

    assert found() == []
    rules = host.run("host", [f"{tool}-save", "-t", "nat"])
    host.run("host", [tool, "-w", "-t", "nat", "-F"])
    try:
        ((verdict, message),) = found()
        assert verdict == "exposed"
        assert "Docker (process" in message
        assert "systemctl restart docker" in message
    finally:
        host.run("host", [f"{tool}-restore", "-w", "-T", "nat"], rules)
    assert found() == []
