"""Several services kept out of conntrack by one policy: each is judged, whenever it matters."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked_cli
import pytest

POLICY = """\
apiVersion: remedy/v1
name: services
persist: false
require:
  - {fix: notrack, params: {protocol: udp, ports: [5060], addresses: [192.0.2.10]}, reason: SIP}
  - {fix: notrack, params: {protocol: udp, ports: [5353], addresses: [192.0.2.10]}, reason: DNS}
"""
NAT = """\
table ip late {
chain prerouting {
type nat hook prerouting priority dstnat
udp dport 5353 dnat to 198.51.100.7
}
}
"""


@pytest.fixture
def remedy(netns: Callable[..., str], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Give ``remedy(*words, code=0)``: a verb in a namespace with two services, as JSON."""
    ns = netns("services")
    subprocess.run(["ip", "-n", ns, "addr", "add", "192.0.2.10/32", "dev", "lo"], check=True)
    (tmp_path / "policy.yaml").write_text(POLICY)

    def run(verb: str, *words: str, code: int = 0) -> dict[str, Any]:
        options = ["--netns", ns, "--state-dir", str(tmp_path / "state"), "--json"]
        options += ["--policy", str(tmp_path / "policy.yaml")]
        done = forked_cli.run(verb, *options, *words, env=os.environ)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        plain: dict[str, Any] = json.loads(done.stdout)
        return plain

    def nat() -> None:
        inside = ["nsenter", f"--net=/run/netns/{ns}", "nft", "-f", "-"]
        subprocess.run(inside, input=NAT, text=True, check=True)

    run.nat = nat  # type: ignore[attr-defined]
    return run


def test_a_saved_plan_is_stale_when_nat_came_for_any_of_them(remedy: Any, tmp_path: Path) -> None:
    plan = str(tmp_path / "plan.json")
    (change,) = remedy("plan", "--window", "0", "-o", plan)["changes"]
    assert "port 5060 " in change["impact"]
    assert "port 5353 " in change["impact"]
    remedy.nat()
    stale = remedy("apply", plan, "--yes", code=5)
    assert "udp dport 5353 dnat to 198.51.100.7" in stale["reason"]


def test_nat_beside_any_of_them_is_harm(remedy: Any) -> None:
    remedy("apply", "--yes", "--window", "0")
    assert remedy("status")["harm"] == []
    remedy.nat()
    (harm,) = remedy("status", code=2)["harm"]
    assert "udp dport 5353 dnat to 198.51.100.7" in harm["reason"]
