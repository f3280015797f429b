"""What a message says to install: for a virtual environment, pipx, Debian's Python, another one."""

from __future__ import annotations

import re
import sys
from itertools import chain
from pathlib import Path

import pytest
import tomllib

from remedies import libraries

PROJECT = Path(__file__).resolve().parent.parent.parent


def test_each_is_a_dependency_of_the_project() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = {re.split(r"[^\w-]", each)[0] for each in listed}
    assert {name for name, _ in libraries.NAMES.values()} <= names


@pytest.mark.parametrize(
    ("prefix", "debian", "module", "said"),
    [
        ("/opt/remedy", True, "shtab", "/opt/remedy/bin/pip install shtab"),
        ("/usr", True, "nftables", "apt install python3-nftables"),
        ("/usr", True, "trestle",
         "install remedies in a virtual environment, and compliance-trestle in it"),
        ("/usr", False, "yaml", "install remedies in a virtual environment, and PyYAML in it"),
        ("/opt/remedy", True, "unheard_of", "/opt/remedy/bin/pip install unheard_of"),
    ],
)  # fmt: skip
def test_it_is_said_for_how_this_copy_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    prefix: str, debian: bool, module: str, said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sys, "prefix", prefix)
    marker = tmp_path / "debian_version"
    if debian:
        marker.touch()
    monkeypatch.setattr(libraries, "_DEBIAN", str(marker))
    assert libraries.how_to_add(module) == said


def test_pipx_is_known_wherever_it_keeps_its_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With PIPX_HOME the path says nothing, and there is no pip in it."""
    prefix = tmp_path / "remedies"
    prefix.mkdir()
    (prefix / "pipx_metadata.json").touch()
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sys, "prefix", str(prefix))
    assert libraries.how_to_add("ansible_runner") == "pipx inject remedies ansible-runner"
