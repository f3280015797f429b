"""The playbooks, run by Ansible against one namespace that stands for a host."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ansible_in_forks
import once
import pytest
from plays import UNUSED

from remedies import shipped

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
---
apiVersion: remedy/v1
name: playbooks
rules:
  tcp-invalid-reset: {mode: fix, from: exposed, fixes: [invalid-drop], accept_harm: [invalid-drop]}
"""


@dataclass(frozen=True)
class Site:
    """One host with a NAT rule, and the control node's temporary folder."""

    netns: str
    folder: Path
    cache: Path
    """Where the control node keeps what can be made again, as for all tests of a run."""

    def play(self, *words: str, program: str = "ansible-playbook") -> tuple[dict[str, int], str]:
        """Run playbooks, with options; return Ansible's counts for the host and its output."""
        settings = {
            "remedy_policy": [str(self.folder / "policy.yaml")],
            "remedy_netns": self.netns,
            "remedy_state_dir": str(self.folder / "state"),
            "ansible_become": False,
            "remedy_window": "0s",
            "ansible_connection": "local",
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        inventory = self.folder / "inventory.yaml"
        lines = [f"      {key}: {value!r}" for key, value in settings.items()]
        inventory.write_text("\n".join(["all:", "  hosts:", "    gw:", *lines, ""]))
        books = shipped.folder("playbooks")
        argv = [f"{books}/{word}.yml" if word.isalpha() else word for word in words]
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(self.folder),
                       "XDG_CACHE_HOME": str(self.cache), "ANSIBLE_NOCOLOR": "1",
                       "PYTHONPATH": UNUSED}  # fmt: skip
        _, out, err = ansible_in_forks.call(
            [program, "-i", str(inventory), *argv], None, str(self.folder), environment, 120
        )
        output = out + err
        recap = re.search(r"^gw +: (.*)$", output, re.MULTILINE)
        assert recap, output
        counts = dict(pair.split("=") for pair in recap[1].split())
        return {key: int(value) for key, value in counts.items()}, output

    def ruleset(self) -> str:
        """Return every nftables rule of the host, counters left out."""
        argv = ["ip", "netns", "exec", self.netns, "nft", "-s", "list", "ruleset"]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def site(
    netns: Callable[..., str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Site:
    name = netns("play")
    argv = ["ip", "netns", "exec", name, "nft", "-f", "-"]
    subprocess.run(argv, input=NAT, text=True, check=True)
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    policy.chmod(0o600)
    return Site(name, tmp_path, once.cache(tmp_path_factory))


def test_a_host_is_planned_applied_and_given_back(site: Site) -> None:
    before = site.ruleset()

    counts, output = site.play("plan", program=f"{BIN}/ansible-playbook")
    assert (counts["failed"], counts["changed"]) == (0, 1), output
    assert "+table inet remedy_invalid_drop" in output
    assert site.ruleset() == before
    counts, output = site.play("apply", "--check", "--diff")
    assert (counts["failed"], counts["changed"]) == (0, 1), output
    assert "+table inet remedy_invalid_drop" in output
    assert site.ruleset() == before

    counts, output = site.play("apply")
    assert (counts["failed"], counts["changed"]) == (0, 1), output
    applied = site.ruleset()
    assert "table inet remedy_invalid_drop" in applied
    counts, output = site.play("apply", "scan", "report", "confirm")
    assert output.count("PLAY [") == 4
    assert (counts["failed"], counts["changed"]) == (0, 0), output
    counts, output = site.play("apply", "--check")
    assert (counts["failed"], counts["changed"]) == (0, 0), output
    counts, output = site.play("rollback", "--check")
    assert (counts["failed"], counts["changed"]) == (0, 1), output
    assert site.ruleset() == applied
    counts, output = site.play("rollback", "-e", "remedy_fix=invalid-drop")
    assert (counts["failed"], counts["changed"]) == (0, 1), output
    assert site.ruleset() == before
    counts, output = site.play("rollback", "-e", "remedy_every=true")
    assert (counts["failed"], counts["changed"]) == (0, 0), output


def test_a_host_that_remedy_fails_on_is_failed_and_unchanged(site: Site) -> None:
    before = site.ruleset()
    (site.folder / "policy.yaml").write_text(POLICY.replace("rules:", "ruels:"))
    for playbook in ("plan", "apply"):
        counts, output = site.play(playbook)
        assert (counts["failed"], counts["changed"]) == (1, 0), output
        assert "policy.yaml:4: ruels: unknown key; did you mean 'rules'?" in output
    assert site.ruleset() == before
