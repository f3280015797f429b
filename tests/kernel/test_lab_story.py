"""Every scenario's whole story, told by the real command line.

Its scans are the confusion matrix, too: in a fault's world only that fault may be found to happen,
in a healthy twin none. The end of the run prints it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confusion
import forked_cli
import pytest
from cli_shapes import departures
from story_forks import by_forks

from remedies.lab import registry, scenarios

ONE_VARIANT = (
    "conntrack-pressure",
    "ipv6-ra-route-lost",
    "mixed-backends",
    "strict-reverse-path",
)
"""Told once: whose rules do NAT decides nothing there; filling the table takes half a minute, and
these are about one IP version alone."""
TWO_VARIANTS = (
    "accept-queue-overflow",
    "bridge-netfilter-missing",
    "helper-missing",
    "idle-timeout",
    "ip-forward-off",
    "local-port-exhaustion",
    "snat-departed",
    "stale-flow",
    "subnet-overlap",
    "tcp-invalid-stall",
    "udp-connected-server",
    "udp-idle",
    "udp-proxy-hairpin",
    "udp-receive-buffer",
    "udp-reply-less",
    "udp-wildcard-v6",
)
"""Told once for each IP version: no rule is in their way, and a fix that writes rules is written
into the legacy store by the story of udp-reply-source."""
SHOWN = ("tcp-invalid-reset", "nft")
"""The story that README.md shows: each of its commands starts an interpreter."""
CASES = [
    pytest.param(name, nat, family, backend, id=f"{name}-{nat}-v{family}-{backend}")
    for name in scenarios.names()
    for nat, family, backend in (
        ("nft", 4, "nftables"),
        ("iptables-nft", 6, "iptables"),
        ("iptables-legacy", 4, "iptables"),
    )
    if nat == "nft" or name not in (*ONE_VARIANT, *(TWO_VARIANTS if family == 4 else ()))
]


def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command, and what it runs, in forks that have the tool's modules already."""
    return forked_cli.run("lab", *arguments, timeout=400, env=os.environ, prepare=by_forks)


def lab_alone(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "remedies", "lab", *arguments],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


Record = Callable[[str, object], None]


def confused(record: Record, told: dict[str, Any], world: str, fault: str) -> list[str]:
    """Hand in a world's row of the matrix; return the conditions it is wrongly accused of."""
    scans = [step["output"] for step in told["steps"] if "scan" in step["argv"]]
    assert scans, "the story looks for nothing"
    row = confusion.row(world, fault, scans)
    record(confusion.PROPERTY, tuple(row))
    return row.wrongly_accused


def story_of_the_readme() -> list[str]:
    """Return the lines that README.md shows as the output of this story's commands."""
    text = (Path(__file__).resolve().parent.parent.parent / "README.md").read_text()
    (block,) = re.findall(r"^```text\n(dies: .*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for line in block.splitlines() if not line.startswith("$ ")]


@pytest.mark.parametrize(("name", "nat", "family", "backend"), CASES)
def test_story_comes_out_as_told(
    name: str, nat: str, family: int, backend: str, record_property: Record
) -> None:
    variant = ("--nat", nat, "--family", str(family), "--backend", backend)
    shown = (name, nat) == SHOWN
    done = (lab_alone if shown else lab)("run", name, *variant, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert departures(told) == []
    assert told["outcome"] == "as-told"
    assert told["failure"] is None
    assert all(step["ok"] for step in told["steps"])
    if shown:
        output = "\n".join(step["output"] for step in told["steps"])
        assert [line for line in story_of_the_readme() if line not in output] == []
    fault = scenarios.load(name).CONDITION
    assert confused(record_property, told, f"{name} {nat} v{family}", fault) == []
    assert not [name for name in os.listdir("/run/netns") if f"rl-{told['world']}-" in name]


@pytest.mark.parametrize("name", scenarios.names())
def test_healthy_twin_calls_for_no_action(name: str, record_property: Record) -> None:
    done = lab("run", name, "--healthy", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert confused(record_property, json.loads(done.stdout), f"{name} healthy", "") == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ended_in_the_middle_it_leaves_nothing(number: signal.Signals, code: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "remedies", "lab", "run", "tcp-invalid-reset"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with child:
        assert child.stdout is not None
        said = ""
        while "  $ remedy" not in said:  # the first command has been started
            said = child.stdout.readline()
            assert said, child.communicate()
        os.killpg(child.pid, number)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == code
    assert "Traceback" not in errors
    world = said.partition("--netns rl-")[2][:4]
    assert not [name for name in os.listdir("/run/netns") if f"rl-{world}-" in name]
    assert not [name for name in os.listdir(registry.FOLDER) if name.startswith(world)]


def test_unknown_scenario_is_a_usage_error() -> None:
    done = lab("run", "tcp-invalid-rest")
    assert done.returncode == 64
    assert "did you mean tcp-invalid-reset?" in done.stderr


def test_list_names_every_scenario_with_one_line() -> None:
    done = lab("list")
    assert done.returncode == 0
    for name in scenarios.names():
        assert name in done.stdout


def test_up_prints_how_to_look_and_down_removes() -> None:
    done = lab("up", "udp-reply-source", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    try:
        assert departures(shown) == []
        assert all(os.path.exists(f"/run/netns/{name}") for name in shown["namespaces"].values())
        attempt = subprocess.run(
            shown["commands"][0].split(), capture_output=True, text=True, timeout=60, check=False
        )
        assert attempt.returncode == 1
        assert attempt.stdout.startswith("dies: ")
    finally:
        taken = lab("down", shown["world"], "--json")
    assert taken.returncode == 0
    assert departures(json.loads(taken.stdout)) == []
    assert not any(os.path.exists(f"/run/netns/{name}") for name in shown["namespaces"].values())
    assert lab("down", shown["world"]).returncode == 64
