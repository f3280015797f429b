"""Packets that are dropped because somebody meant it so: scan is silent about them.

Each world is that of a scenario with one thing otherwise than in its healthy twin, and its traffic
dies all the same.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from remedies.lab import datagram, scenarios
from remedies.lab.firewall import Firewall
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import Options, TrafficOutcome, World, child_environment

Build = Callable[[World], Callable[[], TrafficOutcome]]
"""Fills a world and returns what dies in it."""


def blocked_peer(world: World) -> Callable[[], TrafficOutcome]:
    """One address is blocked, in the middle of a conversation."""
    container_host(world)
    at = addresses(world)
    Firewall(world).drops_range(f"{at.server}/32", ("drop",))
    world.start("server", ["remedies.lab.udp_server", at.server, "53"])
    return lambda: datagram.keep_asking(world, "host", at.family, at.server, 53)


def web_only(world: World) -> Callable[[], TrafficOutcome]:
    """Containers may ask port 80 alone, and this one asks another."""
    container_host(world)
    at = addresses(world)
    rules = Firewall(world)
    rules.forwards()
    world.run(
        "host",
        ["nft", "add", "rule", "ip", "lab_filter", "forward",
         "iifname", "docker0", "tcp", "dport", "80", "accept"],
    )  # fmt: skip
    return lambda: datagram.keep_asking(world, "client", at.family, at.server, 53)


def forged_source(world: World) -> Callable[[], TrafficOutcome]:
    """Outside sends in a container's name; the strict filter is there for that."""
    container_host(world)
    at = addresses(world)
    world.ip("server", "addr add 172.17.0.9/32 dev lo")
    world.sysctl("server", "net.ipv4.conf.all.arp_announce", "2")
    for link in ("all", "eth0"):
        world.sysctl("host", f"net.ipv4.conf.{link}.rp_filter", "1")
    return lambda: datagram.keep_asking(
        world, "server", socket.AF_INET, at.uplink, datagram.PORT, "172.17.0.9"
    )


def cut_off(world: World) -> Callable[[], TrafficOutcome]:
    """A network that nobody translates is meant to reach its host alone."""
    container_host(world, nat=False)
    at = addresses(world)
    world.ip("host", f"route replace default via {at.server}")
    world.sysctl("host", "net.ipv4.ip_forward", "0")
    return lambda: datagram.keep_asking(world, "client", at.family, at.server, 53)


def dead_backend(world: World) -> Callable[[], TrafficOutcome]:
    """Nobody answers for a service, and conntrack would see it if somebody did."""
    scenarios.load("bridge-netfilter-missing").build(world)
    world.stop_all()
    service = addresses(world)
    return lambda: datagram.keep_asking(world, "client", service.family, "10.96.0.10", 56789)


def scanned_container(world: World) -> Callable[[], TrafficOutcome]:
    """A person's own rule keeps one neighbour away from every container."""
    container_host(world)
    at = addresses(world)
    world.ip("server", f"route add {at.subnet} via {at.uplink}")
    world.run("host", ["nft", "-f", "-"], (
        "table ip lab_raw { chain prerouting { type filter hook prerouting priority -300;\n"
        f" ip saddr {at.server} ip daddr {at.subnet} counter drop\n }}\n }}\n"
    ))  # fmt: skip
    return lambda: datagram.keep_asking(world, "server", at.family, at.client, datagram.PORT)


@pytest.mark.parametrize(
    ("build", "healthy"),
    [
        (blocked_peer, False), (web_only, False), (forged_source, False), (cut_off, False),
        (dead_backend, True), (scanned_container, False),
    ],
)  # fmt: skip
def test_what_is_dropped_on_purpose_accuses_nobody(build: Build, healthy: bool) -> None:
    with World("dropped-as-meant", Options(healthy=healthy)) as world:
        traffic = build(world)
        scan = subprocess.Popen(
            [sys.executable, "-m", "remedies", *world.remedy,
             "scan", "--window", "500ms", "--json", "--save-facts", f"{world.folder}/facts"],
            stdout=subprocess.PIPE, text=True, env=child_environment(),
        )  # fmt: skip
        with scan:
            while scan.poll() is None:
                assert not traffic().alive
            assert scan.stdout is not None
            found = json.load(scan.stdout)
        with open(f"{world.folder}/facts", encoding="utf-8") as file:
            known = json.load(file)["known"]
    accused = [f for f in found["findings"] if f["verdict"] in ("active", "proven")]
    assert accused == []
    dropped = sum(drop["count"] for drop in known["drops"]["seen"])
    assert dropped or known["flows"]["unreplied"], "nothing died while scan watched"
