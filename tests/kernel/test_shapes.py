"""Rulesets in the shape of well-known programs: judged, mended, left as they were.

Each is data (``shapes/``). The kernel decides with real connections and real segments outside their
windows whether the fault is there, and ``apply`` has to say the same, name whose rule it is that
helps, end the fault by the default policy, find nothing to do the second time, and be undone; not a
line of theirs changes.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import drop_first
import pytest
import yaml_cases
from crossing import AT, LINKS, Crossing, Leg, entering, leaving, taken
from forked_cli import forked
from test_other_firewalls import theirs

from remedies.lab.ruleset import normal

SHAPES: dict[str, dict[str, Any]] = {
    name: shape
    for file in sorted(Path(__file__).with_name("shapes").glob("*.yaml"))
    for name, shape in yaml_cases.read(file.read_text()).items()
}
POLICIES = {"default": "tcp-be-liberal", drop_first.PATH: "invalid-drop"}
UNTRACKED: dict[str, dict[str, Any]] = yaml_cases.read(
    Path(__file__).with_name("shapes_untracked.yaml").read_text()
)
LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"


@pytest.fixture(scope="module")
def shared(module_netns: Callable[..., str]) -> Crossing:
    return Crossing.wired(module_netns)


@pytest.fixture
def host(shape: str, shared: Crossing, netns: Callable[..., str]) -> Iterator[Crossing]:
    """Give a host with the shape's rules."""
    wanted = SHAPES.get(shape) or UNTRACKED[shape]
    legacy = any("legacy" in program for program in wanted["load"])
    made = Crossing.wired(netns) if legacy else shared  # a legacy table stays for good
    for role, link in LINKS.items():
        made.call(role, wanted.get("links", {}).get(role, link))
    for program, text in wanted["load"].items():
        argv = ["nft", "-f", "-"] if program == "nft" else program.split()
        made.run("host", argv, text)
    for key, value in wanted.get("sysctls", {}).items():
        made.run("host", ["sysctl", "-qw", f"{key}={value}"])
    yield made
    made.run("host", ["nft", "flush ruleset"])
    made.run("host", ["sysctl", "-qw", f"{LIBERAL}=0"])


def legs(shape: Mapping[str, Any]) -> list[Leg]:
    found = [leaving(version) for way in ("leaves", "routed") for version in shape.get(way, ())]
    for ways, make in (("enters", entering), ("taken", taken)):
        found += [make(version, tuple(to)) for version, to in shape.get(ways, {}).items()]
    return found


def survived(made: Crossing, ways: list[Leg]) -> bool:
    """Tell whether the connections of every way live."""
    return all(made.survives(way) for way in ways)


def rules(made: Crossing, shape: Mapping[str, Any]) -> dict[str, str]:
    """Return what each program that the shape uses prints, without counters and ours."""
    programs = {*(p.split()[0].replace("restore", "save") for p in shape["load"] if p != "nft")}
    found = {p: normal(made.run("host", [p])) for p in sorted(programs)}
    return theirs({"nft": normal(made.run("host", ["nft", "-s", "list", "ruleset"])), **found})


def parted(answer: Mapping[str, Any]) -> tuple[dict[str, Any], list[list[str]]]:
    """Return the finding that the shapes are about, and condition and verdict of the others."""
    found = {f["condition"]: f for f in answer["findings"]}
    told = found.pop("tcp-invalid-reset")
    rest = [f for f in answer["findings"] if f["condition"] in found]
    return told, [[f["condition"], f["verdict"]] for f in rest]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_well_known_ruleset(host: Crossing, shape: str, tmp_path: Path) -> None:
    remedy = functools.partial(forked, host.names["host"], tmp_path)
    wanted = SHAPES[shape]
    ways = legs(wanted)
    for way, end in (("leaves", "host"), ("routed", "container")):
        for version in wanted.get(way, ()):
            with host.connected(leaving(version)) as connection:
                assert connection.seen_from() == getattr(AT[version], end)
    before = rules(host, wanted)
    lives = survived(host, ways)

    for policy, fix in POLICIES.items():
        apply = ("apply", "--yes", "--window", "0", "--policy", policy)
        applied = remedy(*apply)
        found, others = parted(applied)
        assert (others, applied["unknown"]) == (wanted.get("others", []), [])
        assert found["verdict"] == ("mitigated" if lives else "exposed"), found
        for words in wanted.get("named", ()):
            assert words in found["message"]
        assert [c["fix"] for c in applied["changes"]] == ([] if lives else [fix])
        assert rules(host, wanted) == before
        assert survived(host, ways)
        again = remedy(*apply)
        assert (again["outcome"], parted(again)[0]["verdict"]) == ("nothing", "mitigated")
        if lives:
            break
        assert remedy("rollback", "--yes", "--every")["outcome"] == "rolled-back"
        assert survived(host, ways) == lives
        assert rules(host, wanted) == before


@pytest.mark.parametrize("shape", UNTRACKED)
def test_a_ruleset_with_notrack(host: Crossing, shape: str, tmp_path: Path) -> None:
    wanted = UNTRACKED[shape]
    own = host.names["host"]
    for address in wanted.get("bound", ()):
        host.ip("host", f"addr add {address}/32 dev lo")
    (asks, *to), (listens, *at) = wanted["asks"], wanted["at"]
    leg = Leg(listens, tuple(at), asks, tuple(to))
    seen_as = wanted.get("as", AT[4].host if (asks, listens) == ("container", "outside") else "")
    patience = 0.3 if wanted.get("verdict") == "exposed" else 3.0
    answered = host.answered(leg, seen_as, wanted.get("by", ""), patience=patience)
    with contextlib.ExitStack() as stack:
        for address in wanted.get("bound", ()):
            cache = stack.enter_context(host.socket("host", socket.AF_INET, socket.SOCK_DGRAM))
            cache.bind((address, at[1]))
        findings = forked(own, tmp_path, "scan", "--window", "0", "--show-all")["findings"]
    told = {f["verdict"] for f in findings if f["condition"] == "notrack-breaks-nat"}
    assert told == set(filter(None, [wanted.get("verdict")]))
    assert answered == told.isdisjoint({"exposed", "active", "proven"})
    for address in wanted.get("bound", ()):
        host.ip("host", f"addr del {address}/32 dev lo")
