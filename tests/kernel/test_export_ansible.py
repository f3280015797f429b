"""An exported plan, run by Ansible alone: the same change, and the same way back."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import ansible_in_forks
import pytest
from forked_cli import begun_in
from plays import UNUSED
from run_in import RunIn

BIN = os.path.dirname(sys.executable)
NAT = """
table ip world_nat {
  chain post {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 172.17.0.0/16 masquerade
  }
}
"""
POLICY = """\
apiVersion: remedy/v1
name: both
rules:
  tcp-invalid-reset:
    mode: fix
    from: exposed
    fixes: {all: [invalid-drop, tcp-be-liberal]}
    accept_harm: [invalid-drop]
"""


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_the_playbooks_do_what_the_plan_says_and_undo_it(
    netns: Callable[..., str], run_in: RunIn, tmp_path: Path, backend: str
) -> None:
    ns = netns("export")
    run_in(ns, ["nft", "-f", "-"], stdin=NAT)
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    policy.chmod(0o600)

    def remedy(*words: str) -> None:
        begun_in(ns, *words, "--state-dir", str(tmp_path / "state"))

    def state() -> tuple[str, ...]:
        """Return rules and the setting; what iptables left empty is not a rule."""
        saves = [["iptables-save"], ["ip6tables-save"], ["nft", "-s", "list", "ruleset"]]
        texts = [run_in(ns, argv, check=False).stdout for argv in saves]
        lines = [line for text in texts for line in text.splitlines() if "remedy" in line.lower()]
        key = run_in(ns, ["sysctl", "net.netfilter.nf_conntrack_tcp_be_liberal"]).stdout
        return (*sorted(lines), key)

    def play(name: str) -> dict[str, int]:
        # As a person starts it once, in forks for the other backend.
        program = f"{BIN}/ansible-playbook" if backend == "nftables" else "ansible-playbook"
        argv = [program, "-i", "localhost,", "-c", "local", f"{tmp_path}/{name}",
                "-e", "remedy_hosts=all", "-e", "ansible_become=false",
                "-e", "ansible_python_interpreter=/usr/bin/python3"]  # fmt: skip
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8",
                       "ANSIBLE_NOCOLOR": "1", "PYTHONPATH": UNUSED}  # fmt: skip
        _, out, err = ansible_in_forks.call(argv, ns, str(tmp_path), environment, 120)
        recap = re.search(r"^localhost +: (.*)$", out, re.MULTILINE)
        assert recap, out + err
        counts = dict(pair.split("=") for pair in recap[1].split())
        assert counts["failed"] == "0", out
        return {key: int(value) for key, value in counts.items()}

    before = state()
    plan = str(tmp_path / "plan.json")
    remedy("plan", "--policy", str(policy), "--backend", backend, "--window", "0", "-o", plan)
    remedy("export", "ansible", plan, "-o", str(tmp_path))
    assert play("apply.yml")["changed"] > 1
    applied = state()
    assert applied != before
    again = backend == "iptables"  # the others are played twice on a whole host: tests/fleet
    assert not again or play("apply.yml")["changed"] == 0
    assert play("rollback.yml")["changed"] > 1
    assert state() == before
    assert not again or play("rollback.yml")["changed"] == 0

    # The tool itself, with the same plan, makes the same state.
    remedy("apply", plan, "--yes", "--window", "0")
    assert state() == applied


@pytest.mark.parametrize("name", ["a\n- evil: {{ lookup('pipe', 'id') }}", "a'b", ""])
def test_a_host_name_that_is_none_is_refused(
    netns: Callable[..., str], run_in: RunIn, tmp_path: Path, name: str
) -> None:
    ns = netns("export")
    run_in(ns, ["nft", "-f", "-"], stdin=NAT)
    plan = tmp_path / "plan.json"
    words = ["--state-dir", str(tmp_path / "state"), "--window", "0", "-o", str(plan)]
    begun_in(ns, "plan", *words)
    plain = json.loads(plan.read_text())
    plain["host"]["name"] = name
    plan.write_text(json.dumps(plain))
    done = begun_in(ns, "export", "ansible", str(plan), "-o", str(tmp_path / "out"), code=65)
    assert "is not a host name" in done.stderr
    assert not (tmp_path / "out").exists()
