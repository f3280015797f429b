"""The Ansible collection: built, installed from its file, read, and used with nothing else."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from remedies.fleet import actions

ROOT = Path(__file__).resolve().parent.parent.parent
NAT = """
add table ip w
add chain ip w post { type nat hook postrouting priority srcnat; }
add rule ip w post ip saddr 172.17.0.0/16 masquerade
"""
KEY = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal"


class Controller:
    """A controller that has ansible-core and what it needs, and not this package."""

    def __init__(self, folder: Path, archive: str) -> None:
        self.folder, self.archive = folder, archive
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_NOCOLOR": "1",
            # An editable package is found by a .pth file, and only site folders have those.
            "PYTHONPATH": sysconfig.get_path("purelib"),
        }

    def install(self) -> None:
        self("galaxy", "collection", "install", "--offline", self.archive)

    def __call__(self, command: str, *words: str) -> str:
        """Run one of Ansible's commands; return what it prints."""
        base = getattr(sys, "_base_executable", sys.executable)
        done = subprocess.run(
            [base, "-m", "ansible", command, *words],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Controller:
    """Give a controller with the collection installed from its file."""
    folder = tmp_path_factory.mktemp("controller")
    script = ROOT / "playbooks/collection/build.py"
    built = subprocess.run(
        [sys.executable, str(script), str(folder)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    controller = Controller(folder, built.stdout.strip())
    controller.install()
    return controller


def test_everything_in_it_has_a_description(controller: Controller) -> None:
    told = controller("doc", "remedy.fleet.remedy")
    assert "has a corresponding action plugin" in told
    assert "confirm_timeout" in told
    assert "remedy.fleet.remedy" in controller("doc", "-t", "role", "-l", "remedy.fleet")


def test_its_playbooks_and_role_do_what_the_documentation_says(
    controller: Controller, netns: Callable[..., str]
) -> None:
    host = netns("gw")
    subprocess.run(
        ["ip", "netns", "exec", host, "nft", "-f", "-"], input=NAT, text=True, check=True
    )
    inventory = controller.folder / "inventory.yml"
    settings = {
        "remedy_netns": host,
        "remedy_state_dir": str(controller.folder / "state"),
        "remedy_window": "0s",
        "ansible_become": False,
        "ansible_connection": "local",
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {"gw": settings}}}))

    def value() -> str:
        argv = ["ip", "netns", "exec", host, "cat", KEY]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    def play(*words: str) -> str:
        return controller("playbook", "-i", str(inventory), *words)

    role = controller.folder / "role.yml"
    plays = [{"hosts": "all", "gather_facts": False, "roles": ["remedy.fleet.remedy"]}]
    role.write_text(yaml.safe_dump(plays))
    assert "nf_conntrack_tcp_be_liberal = 1" in play("remedy.fleet.apply", "--check", "--diff")
    assert value() == "0"
    told = play("remedy.fleet.scan", "remedy.fleet.apply", "remedy.fleet.report", str(role))
    assert told.index("exposed tcp-invalid-reset") < told.index("mitigated tcp-invalid-reset")
    assert "ok=7    changed=1" in told
    assert value() == "1"
    shutil.rmtree(controller.folder / "home/collections/ansible_collections/remedy")
    assert value() == "1", "who removes it has still to undo"
    controller.install()
    assert "changed=1" in play("remedy.fleet.rollback", "-e", "remedy_every=true")
    assert value() == "0"


def test_every_option_and_verb_of_the_action_is_described() -> None:
    described = yaml.safe_load(_loaded("library").DOCUMENTATION)["options"]
    assert set(described) == set(_loaded("action_plugins")._OPTIONS)
    assert described["verb"]["choices"] == list(actions.ACTIONS)


def _loaded(folder: str) -> Any:
    spec = importlib.util.spec_from_file_location(folder, ROOT / "playbooks" / folder / "remedy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
