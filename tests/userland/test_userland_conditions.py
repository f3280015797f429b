"""The other conditions on every Debian's userland: proven, repaired, gone, given back, proven.

One host with all of them: netcat that has connected itself, a docker-proxy that answers a
neighbour from the bridge, and somebody's notrack over a published port. Each userland takes
another tool for what others write.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from debian import SUITES
from userland_world import Userland

from remedies.lab import NATS, ruleset
from remedies.lab.firewall import Firewall
from remedies.lab.scenarios import (
    notrack_breaks_nat,
    udp_connected_server,
    udp_proxy_hairpin,
)
from remedies.lab.topology import addresses, container_host

POLICY = """\
apiVersion: remedy/v1
name: userland
extends: docker-host
rules:
  tcp-invalid-reset: {mode: off}
"""
SCENARIOS = (udp_connected_server, udp_proxy_hairpin, notrack_breaks_nat)
MINE = {scenario.CONDITION for scenario in SCENARIOS}
SEEN = {**dict.fromkeys(MINE, "proven"), "notrack-breaks-nat": "exposed"}
"""A refused datagram leaves a flow to read later; an untracked one leaves nothing."""


def test_proven_repaired_given_back(userland: Callable[..., Userland], suite: str) -> None:
    with userland(NATS[SUITES.index(suite)]) as world:
        netcat = build(world)
        options = ("--policy", world.policy(POLICY))
        before = {**ruleset.dump(world), **world.files()}
        comes_to(world, False, False, False)
        assert verdicts(world, *options) == SEEN
        assert ruleset.difference(before, {**ruleset.dump(world), **world.files()}) == ""

        applied = world.json("apply", "--yes", *options, "--window", "0")
        assert applied["outcome"] == "applied"
        assert {change["fix"] for change in applied["changes"]} == {"udp-redirect"}
        comes_to(world, True, True, False)
        Firewall(world).track_again(notrack_breaks_nat.PORT)  # its owner's to do
        comes_to(world, True, True, True)
        found = verdicts(world, *options, code=0)
        assert set(found.values()) <= {"mitigated"}, found

        assert world.json("rollback", "--yes")["outcome"] == "rolled-back"
        Firewall(world).notrack(notrack_breaks_nat.PORT)
        world.stop(netcat)
        serve_netcat(world)
        comes_to(world, False, False, False)
        assert verdicts(world, *options) == SEEN
        assert ruleset.difference(before, {**ruleset.dump(world), **world.files()}) == ""


def build(world: Userland) -> subprocess.Popen[str]:
    """Wire what the three scenarios have in common and what each adds; return netcat."""
    container_host(world)
    at, other = addresses(world), udp_proxy_hairpin.OTHER[4]
    world.ip(
        "host",
        f"link add veth1 type veth peer name eth1 netns {world.namespace('server')}",
        "link set veth1 master docker0",
    )
    world.ip("server", f"addr add {other}/{at.inner} dev eth1")
    world.await_links(server=["eth1"], host=["veth1"])
    port = str(udp_proxy_hairpin.PORT)
    world.start("server", ["remedies.lab.udp_server", other, port])
    world.start("host", ["remedies.lab.docker_proxy", "0.0.0.0", port, other, port])

    Firewall(world).publish(at.uplink, notrack_breaks_nat.PORT, at.client)
    Firewall(world).notrack(notrack_breaks_nat.PORT)
    world.start("client", ["remedies.lab.udp_server", at.client, str(notrack_breaks_nat.PORT)])
    return serve_netcat(world)


def serve_netcat(world: Userland) -> subprocess.Popen[str]:
    port = str(udp_connected_server.PORT)
    return world.start("host", ["remedies.lab.netcat", f"{world.folder}/heard", port])


def comes_to(world: Userland, *wanted: bool) -> None:
    """Try each kind of traffic once: it has to live, or to die."""
    seen = []
    for scenario, alive in zip(SCENARIOS, wanted, strict=True):
        with world.wanted(alive=alive):
            seen.append(scenario.traffic(world).alive)
    assert seen == [*wanted]


def verdicts(world: Userland, *options: str, code: int = 2) -> dict[str, str]:
    """Scan after the traffic; return verdict by condition, for those that are here."""
    found = world.json("scan", "--window", "0", *options, code=code)["findings"]
    return {f["condition"]: f["verdict"] for f in found if f["condition"] in MINE}
