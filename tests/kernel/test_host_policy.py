"""The host's policy: what one policy put in force, another neither takes away nor hides.

A real client that fails, under the road of a person: apply under ``docker-host``, the next day
``apply`` without ``--policy``; and what a plan says about a proven fault that it leaves.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_host import Cli, Q
from udp_client import client, serving

from remedies.lab.topology import addresses

DOCKER = ("--policy", "docker-host")


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_apply_without_the_policy_of_yesterday_keeps_its_fix(tmp_path: Path, backend: str) -> None:
    with serving("iptables-nft", 4) as world:
        cli = Cli(world, tmp_path)
        del cli.environment["REMEDY_POLICY"]
        options = ("--backend", backend, *Q)
        with client(world, addresses(world).uplink) as failing:
            assert failing.ask() == "refused"
            assert cli("apply", "--yes", *options, *DOCKER).returncode == 0
            assert failing.ask() == "answered"
            plan = cli.json("plan", *options)
            assert {(k["fix"], *k["policy"]) for k in plan["kept"]} == {
                ("udp-redirect", "docker-host")
            }
            assert not any(c["action"] == "remove" for c in plan["changes"])
            told = cli("apply", "--yes", *options)
            assert told.returncode == 0
            assert "udp-redirect stays in force" in told.stdout
            assert "Nothing to do" not in told.stdout
            assert failing.ask() == "answered"

            pruned = cli.json("plan", "--prune", *options)
            risks = {c["fix"]: c["risk"] for c in pruned["changes"] if c["action"] == "remove"}
            assert risks["udp-redirect"] == "high"
            gone = cli("apply", "--yes", "--quiet", "--prune", *options)
            assert "removed" in gone.stdout
            assert "(risk high)" in gone.stdout
            newest = cli("history").stdout.splitlines()[0]
            assert "removed udp-redirect" in newest
        with client(world, addresses(world).uplink) as new:  # the older flow is pinned by conntrack
            assert new.ask() == "refused"
        cli("rollback", "--every", "--yes")


def test_a_proven_fault_that_policy_only_advises_on_comes_with_its_way_out(tmp_path: Path) -> None:
    with serving("nft", 4) as world:
        cli = Cli(world, tmp_path)
        del cli.environment["REMEDY_POLICY"]
        with client(world, addresses(world).uplink) as failing:
            assert failing.ask() == "refused"
            cli("apply", "--yes", *Q)
            done = cli("apply", "--yes", *Q)
            assert "Nothing was changed." in done.stdout
            assert "Nothing to do" not in done.stdout
            (line,) = [x for x in done.stdout.splitlines() if x.startswith("Proven and not fixed")]
            assert "policy default only advises" in line
            assert "remedy plan --policy docker-host" in line
            left = cli.json("plan", *Q)["left"]
            assert [(x["condition"], x["policies"]) for x in left] == [
                ("udp-reply-source", ["docker-host"])
            ]
            # The way out, as it was said: the outage ends.
            assert cli("apply", "--yes", *Q, *DOCKER).returncode == 0
            assert failing.ask() == "answered"
            assert cli.json("plan", *Q, *DOCKER)["left"] == []
        cli("rollback", "--every", "--yes")


def test_the_policy_and_what_names_it_stand_in_the_first_line(cli: Cli) -> None:
    for words in (("scan", *Q), ("plan", *Q), ("apply", "-n", *Q), ("status",), ("verify", *Q)):
        first = cli(*words, env={"REMEDY_POLICY": ""}).stdout.splitlines()[0]
        assert first.endswith("policy default (built-in default)"), words
        first = cli(*words, *DOCKER).stdout.splitlines()[0]
        assert first.endswith("policy docker-host (--policy)"), words
        named = cli(*words, env={"REMEDY_POLICY": "voip-gateway"}).stdout.splitlines()[0]
        assert named.endswith("policy voip-gateway (environment: REMEDY_POLICY)"), words
    for words in (("scan", *Q), ("plan", *Q), ("status",), ("verify", *Q)):
        policy = cli.json(*words, *DOCKER)["policy"]
        assert (policy["names"], policy["source"]) == (["docker-host"], "--policy")


def test_a_saved_plan_carries_what_was_kept_and_is_read_back(cli: Cli, tmp_path: Path) -> None:
    """What 'plan --json' prints is a plan, too."""
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(cli.json("plan", *Q)))
    assert cli("apply", "-n", str(path), *Q).returncode == 0
