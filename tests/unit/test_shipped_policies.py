"""The shipped policies and playbooks: valid, tidy, and doing what their names promise."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remedies import catalogue, shipped
from remedies.errors import RemedyError
from remedies.policy import waivers
from remedies.policy.compile import compile_policy

NAMES = shipped.POLICIES


def test_these_are_shipped_and_nothing_else() -> None:
    assert tuple(shipped.policies()) == shipped.POLICIES


@pytest.mark.parametrize("name", NAMES)
def test_each_is_valid_under_its_own_name(name: str) -> None:
    policy = compile_policy((name,)).policy
    assert policy.names == (name,)
    assert set(policy.rules) == set(catalogue.condition_ids())
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert not any(waivers.expired(waiver, today) for waiver in policy.waivers)
    assert not policy.require, "no shipped policy can know what a site requires"


FIXED_BY_ALL = {
    "tcp-invalid-reset",
    "tcp-invalid-stall",
}
"""Conditions that any shipped policy may fix by itself."""
UDP_CONDITIONS = {"udp-reply-source", "udp-connected-server", "udp-proxy-hairpin"}


@pytest.mark.parametrize("name", NAMES)
def test_notrack_is_only_ever_required_and_a_redirect_waits_for_proof(name: str) -> None:
    rules = compile_policy((name,)).policy.rules
    fixed = {c for c, rule in rules.items() if rule.mode == "fix"}
    forwards = {"ip-forward-off"} if name in ("docker-host", "kubernetes-node") else set()
    forwards |= {"bridge-netfilter-missing"} if name == "kubernetes-node" else set()
    flows = set() if name in ("default", "observe-only") else {"stale-flow"}
    redirected = UDP_CONDITIONS if name == "docker-host" else set()
    routers = {"ipv6-ra-route-lost"} if forwards else set()
    closed = {"route-localnet-exposure"} if name == "kubernetes-node" else set()
    clamped = {"mtu-black-hole"} if name == "nat-gateway" else set()
    proven = {*forwards, *closed, *clamped}
    assert fixed <= {*FIXED_BY_ALL, *redirected, *proven, *routers, *flows}
    assert fixed >= flows | closed | clamped
    assert all(rules[condition].from_ == "proven" for condition in (*proven, "stale-flow"))
    assert rules["stale-flow"].fixes == ("flush-stale-flow",)
    assert all("notrack" not in rule.fixes for rule in rules.values())
    for condition in UDP_CONDITIONS:
        rule = rules[condition]
        redirects = "udp-redirect" in rule.fixes
        assert redirects == (name == "docker-host")
        assert not redirects or (rule.from_, rule.fixes[-1]) == ("proven", "bind-advice")


def test_default_fixes_the_reset_fault_from_exposed() -> None:
    rule = compile_policy(("default",)).policy.rules["tcp-invalid-reset"]
    assert (rule.mode, rule.from_, rule.fixes, rule.every) == (
        "fix", "exposed", ("tcp-be-liberal", "invalid-drop"), False,
    )  # fmt: skip


def test_a_kubernetes_node_is_made_liberal_before_anything_is_dropped() -> None:
    rule = compile_policy(("kubernetes-node",)).policy.rules["tcp-invalid-reset"]
    assert rule.fixes == ("tcp-be-liberal", "invalid-drop")
    assert not rule.every


def test_observe_only_changes_nothing_whatever_default_says() -> None:
    compiled = compile_policy(("observe-only",))
    assert [place.label for place, _ in compiled.read] == ["policies/observe-only.yaml"]
    assert {rule.mode for rule in compiled.policy.rules.values()} == {"advise"}
    assert not compiled.policy.persist


def test_the_example_in_voip_gateway_works_as_it_is_printed(tmp_path: Path) -> None:
    with open(shipped.policies()["voip-gateway"], encoding="utf-8") as file:
        lines = [line[4:] for line in file if line.startswith("#   ")]
    example = tmp_path / "example.yaml"
    example.write_text("".join(lines))
    example.chmod(0o600)
    policy = compile_policy((str(example),)).policy
    assert policy.require[0].fix == "notrack"
    assert policy.waivers[0].subject == "udp *:514"
    assert policy.persist


def test_they_are_tidy() -> None:
    yamllint = os.path.join(os.path.dirname(sys.executable), "yamllint")
    folders = [shipped.folder(kind) for kind in shipped.KINDS]
    done = subprocess.run(
        [yamllint, "--strict", *folders], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_a_damaged_installation_says_so() -> None:
    with pytest.raises(RemedyError, match="are not in this installation"):
        shipped.folder("nonsense")


@pytest.mark.parametrize("name", ["../default", "", "a/b", "default.json", "\0"])
def test_no_name_leads_out_of_the_compiled_folder(name: str) -> None:
    assert shipped.compiled(name) is None
