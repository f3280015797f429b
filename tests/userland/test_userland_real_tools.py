"""Beside the real ufw, firewalld, shorewall, ferm, libvirt, lxc, podman and fail2ban.

Each as Debian's package installs it writes its own rules on the host of a world. The kernel is
asked first: does a connection live through a segment outside its window, by masquerade and by a
published port? The verdict has to say the same; a fix makes both live, a second apply changes
nothing, and not a line of theirs is different then or after the rollback.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from debian import root_folder
from real_tools import PACKAGES, TOOLS, Tool
from test_other_firewalls import missing, theirs
from userland_world import Userland

from remedies.lab import ruleset
from remedies.lab.scenarios import tcp_invalid_reset
from remedies.lab.topology import addresses, container, container_host, uplink
from remedies.lab.world import Options

LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
POLICY = """\
apiVersion: remedy/v1
name: drop-first
extends: default
backend: {backend}
rules:
  tcp-invalid-reset: {{mode: fix, from: exposed, fixes: [invalid-drop],
                      accept_harm: [invalid-drop]}}
"""


@pytest.fixture(params=TOOLS)
def tool(request: pytest.FixtureRequest) -> Tool:
    return TOOLS[request.param]


@pytest.fixture
def world(bundle: Path, tool: Tool) -> Iterator[Userland]:
    nat = "nft" if tool.backend == "nftables" else "iptables-nft"
    root = root_folder(tool.release, extra=PACKAGES[tool.release])
    with Userland("userland", Options(nat, tool.family), root, bundle) as made:
        set_up(made, tool)
        yield made


def set_up(world: Userland, tool: Tool) -> None:
    """Join container, host and server; the tool's rules are on the host, and its bridge."""
    at = addresses(world)
    if tool.bridge == "docker0":
        container_host(world, nat=not tool.nat)
    else:
        uplink(world)
    # Not into a pipe of ours, which its daemon would keep open.
    asleep = world.sh("sh", "-c", "sleep 600 > /dev/null 2>&1 & echo $!", role="client").strip()
    start = 'timeout 60 sh -exc "$1" > /run/said 2>&1 || { cat /run/said; exit 1; }'
    world.sh("sh", "-c", start, "sh", tool.script, CLIENT=asleep)
    if tool.runs:
        move_in(world)
    elif tool.bridge not in ("docker0", "podman0"):  # netavark has a container's interface made
        container(world, tool.bridge)
    # What leaves with a container's address comes back.
    world.ip("server", f"route add {at.subnet} via {at.uplink}")
    assert tool.sign in str(ruleset.dump(world))


def move_in(world: Userland) -> None:
    """Let the lab's client be the container that the tool has started."""
    pid = (world.root / "run/container").read_text()
    name = f"/run/netns/{world.namespace('client')}"
    subprocess.run(["umount", name], check=True)
    subprocess.run(["mount", "--bind", world.root / f"proc/{pid}/ns/net", name], check=True)


def lives(world: Userland, tool: Tool, above: int = tcp_invalid_reset.ABOVE) -> list[bool]:
    """Tell for each end that may send it whether a segment so far above the window is survived."""
    ends = ((True, False), (True, True)) if tool.published else ()
    return [
        tcp_invalid_reset.transfer(world, above, published=published, asking=asking).alive
        for published, asking in ((False, False), *ends)
    ]


def finding(world: Userland) -> dict[str, Any]:
    """Return what is found about such segments; nothing is unknown."""
    found = world.json("scan", "--window", "0", code=None)
    assert found["unknown"] == []
    (one,) = (f for f in found["findings"] if f["condition"] == "tcp-invalid-reset")
    return dict(one)


def test_as_the_kernel_has_it(world: Userland, tool: Tool) -> None:
    before = ruleset.dump(world)
    assert all(lives(world, tool, above=0))
    alive = lives(world, tool)
    assert alive == list(tool.alive)
    found = finding(world)
    assert found["verdict"] == ("mitigated" if all(alive) else "exposed")
    assert tool.owner in found["message"]

    policy = world.policy(POLICY.format(backend=tool.backend))
    for fix, options in (
        ("tcp-be-liberal", ()),
        ("invalid-drop", ("--policy", policy)),
    ):
        apply = ("apply", "--yes", "--window", "0", *options)
        applied = world.json(*apply)
        assert {c["fix"] for c in applied["changes"]} == (set() if all(alive) else {fix})
        during = ruleset.dump(world)
        same(tool, {**before, LIBERAL: during[LIBERAL]}, during)
        assert all(lives(world, tool))
        assert finding(world)["verdict"] == "mitigated"
        assert world.json(*apply)["outcome"] == "nothing"
        assert ruleset.difference(during, ruleset.dump(world)) == ""
        if tool.reload and fix == "invalid-drop":
            reloaded(world, tool, before)
        if all(alive):
            break
        assert world.json("rollback", "--yes")["outcome"] == "rolled-back"
        assert ruleset.difference(before, ruleset.dump(world)) == ""
    assert lives(world, tool) == alive


def reloaded(world: Userland, tool: Tool, before: ruleset.Dump) -> None:
    """Let it write its rules once more, beside ours: either they stay, or status misses them."""
    world.sh("sh", "-c", f"{tool.reload} > /run/said 2>&1")
    same(tool, before, ruleset.dump(world))
    status = world.json("status", code=2 if tool.empties else 0)
    assert ("gone" in {e["state"] for e in status["in_force"]}) == tool.empties


def same(tool: Tool, before: ruleset.Dump, now: ruleset.Dump) -> None:
    """Check that their rules are what they were, but for our jumps in their tables."""
    if tool.backend == "nftables":
        assert ruleset.difference({**before, "nft": before["nft"].rstrip()}, theirs(now)) == ""
    else:
        assert missing(before, now) == []
