"""One apply is the last word: beside rulesets that cover one family, one hook or one fix only.

The second and third apply change nothing, whichever fix policy names and whichever backend writes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked_cli
import pytest
from run_in import run_command

NAT = """
table inet site { chain post { type nat hook postrouting priority srcnat;
  oifname "eth0" masquerade
}
}
"""
V4_DROPS = """
table ip a {
  chain i { type filter hook input priority 0; ct state invalid drop; }
  chain f { type filter hook forward priority 0; ct state invalid drop; }
}
"""
FORWARD_DROPS = """
table inet b { chain f { type filter hook forward priority 0; ct state invalid drop; }
}
"""
POLICY = """\
apiVersion: remedy/v1
name: chosen
extends: default
backend: {backend}
rules:
  tcp-invalid-reset:
    {{mode: fix, from: exposed, fixes: [{fixes}], accept_harm: [invalid-drop]}}
"""
FIRST = {
    "tcp-be-liberal": "tcp-be-liberal",
    "invalid-drop": "invalid-drop",
    "invalid-drop, tcp-be-liberal": "tcp-be-liberal",
}
"""Which of a policy's fixes is used for what is only exposed: one that harms nothing, first."""
Remedy = Callable[..., dict[str, Any]]
WORLDS = {"nothing": "", "IPv4 drops": V4_DROPS, "forward drops": FORWARD_DROPS}


@pytest.mark.parametrize(
    ("backend", "fixes"),
    # A setting is no backend's.
    [*(("nftables", fixes) for fixes in FIRST), ("iptables", "invalid-drop")],
)
@pytest.mark.parametrize("beside", WORLDS)
def test_a_second_apply_changes_nothing(
    load: Callable[[str, str], str], tmp_path: Path, beside: str, backend: str, fixes: str
) -> None:
    ns = load("nft", NAT + WORLDS[beside])
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(backend=backend, fixes=fixes))
    remedy = _remedy(ns, policy)
    first = remedy("apply", "--yes", "--window", "0")
    assert first["outcome"] == "applied"
    assert {change["fix"] for change in first["changes"]} == {FIRST[fixes]}
    for _ in range(2):
        again = remedy("apply", "--yes", "--window", "0")
        assert (again["outcome"], again["changes"], again["refused"]) == ("nothing", [], [])
    assert remedy("rollback", "--yes", "--every")["outcome"] == "rolled-back"


def _remedy(ns: str, policy: Path) -> Remedy:
    """Return a function that runs a verb under a policy, checks its exit code, returns its JSON."""

    def run(*words: str, code: int = 0) -> dict[str, Any]:
        place = ("--netns", ns, "--state-dir", f"{policy.parent}/s", "--policy", str(policy))
        done = forked_cli.run(*place, "--json", *words, env=os.environ)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return dict(json.loads(done.stdout))

    return run


def test_what_could_harm_needs_the_policy_once_and_stays_in_force(
    load: Callable[[str, str], str], tmp_path: Path
) -> None:
    ns = load("nft", NAT)
    policy = tmp_path / "policy.yaml"
    accepting = POLICY.format(backend="nftables", fixes="invalid-drop")
    policy.write_text(accepting.replace(", accept_harm: [invalid-drop]", ""))
    remedy, apply = _remedy(ns, policy), ("apply", "--yes", "--window", "0")
    (refusal,) = remedy(*apply, code=8)["refused"]
    assert "'accept_harm: [invalid-drop]'" in refusal["reason"]
    policy.write_text(accepting)
    assert remedy(*apply)["outcome"] == "applied"
    policy.write_text(accepting.replace(", accept_harm: [invalid-drop]", ""))
    assert remedy(*apply)["outcome"] == "nothing"
    run_command(ns, ["nft", "delete", "table", "inet", "remedy_invalid_drop"])
    assert remedy(*apply)["outcome"] == "applied"  # it was in force: what somebody removed is back
    assert remedy("rollback", "--yes", "--every")["outcome"] == "rolled-back"
    assert remedy(*apply, code=8)["changes"] == []
