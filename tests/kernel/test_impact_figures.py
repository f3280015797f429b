"""The figures of a plan are what happens: the flows that it names go, and no others."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import forked_cli
import pytest
from tracked import await_flow

from remedies.facts import Asking, slab
from remedies.facts.host import read_host
from remedies.lab.scenarios import udp_reply_source
from remedies.lab.topology import addresses
from remedies.lab.world import Options, World
from remedies.netlink.flow import Tuple


def remedy(world: World, *words: str) -> dict[str, Any]:
    done = forked_cli.run(*world.remedy, *words, "--policy", "docker-host", "--json")
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return dict(json.loads(done.stdout))


def tracked(world: World) -> set[str]:
    """Return the UDP flows of the host, as a plan names them."""
    listed = world.run("host", ["conntrack", "-L", "-p", "udp"])
    ways = re.findall(r"^udp .*?src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)", listed, re.MULTILINE)
    return {f"udp {source}:{sport} -> {target}:{dport}" for source, target, sport, dport in ways}


def test_both_files_of_the_kernel_tell_the_same_size_of_a_flow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with World("udp-reply-source", Options()):  # conntrack is in use, and its cache is there
        found = slab.read(Asking(read_host()))
        monkeypatch.setattr(slab, "SIZE", str(tmp_path / "absent"))
        other = slab.read(Asking(read_host()))
    assert (found.source, other.source) == ("/sys/kernel/slab/nf_conntrack/slab_size",
                                            "/proc/slabinfo")  # fmt: skip
    assert found.flow == other.flow > 0


def test_the_flows_that_a_plan_names_are_the_flows_that_go(tmp_path: Path) -> None:
    """Those of the fault go; one on another port and one to the bridge itself stay."""
    with World("udp-reply-source", Options()) as world:
        udp_reply_source.build(world)
        udp_reply_source.traffic(world)
        at = addresses(world)
        for target in ((at.uplink, 9999), (at.server, 9999)):
            with world.socket("client", at.family, socket.SOCK_DGRAM) as end:
                end.sendto(b"x", target)
                way = Tuple(at.client, end.getsockname()[1], *target)
                await_flow(world.namespace("host"), "udp", way)
        before = tracked(world)
        plan = remedy(world, "plan", "--window", "0", "-o", str(tmp_path / "plan.json"))
        redirect = next(c for c in plan["changes"] if c["fix"] == "udp-redirect")
        told = re.search(r"loses (\d+) flows?: (.*?); takes", redirect["impact"])
        assert told is not None, redirect["impact"]
        named = set(told[2].split(", "))
        assert (len(named), named <= before) == (int(told[1]), True)
        remedy(world, "apply", str(tmp_path / "plan.json"), "--yes", "--window", "0")
        assert before - tracked(world) == named
        assert len(before - named) >= 2


def test_a_change_that_loses_nothing_says_so() -> None:
    with World("udp-reply-source", Options()) as world:
        udp_reply_source.build(world)
        changes = remedy(world, "plan", "--window", "0")["changes"]
        (liberal,) = (c for c in changes if c["resource"].startswith("sysctl:"))
        assert "loses no flow; takes no byte of kernel memory" in liberal["impact"]
