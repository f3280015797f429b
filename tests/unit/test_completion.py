"""The completion scripts: what a person gets who presses the tab key."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest
from tab_key import SHELLS, press

from remedies import cli
from remedies.cli import completion, parser
from remedies.namespaces import netns


def script(capsys: pytest.CaptureFixture[str], shell: str) -> str:
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


def shown(shell: str, offered: set[str]) -> set[str]:
    """Return what a shell shows of what is offered: zsh, of a path, what is not typed yet."""
    if shell != "zsh":
        return offered
    return {Path(word).name if word.startswith("/") else word for word in offered}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["remedy", "sc"], {"scan"}),
        (["remedy", "scan", "--fail-on", ""], {"exposed", "active", "proven"}),
        (["remedy", "scan", "--fa"], {"--facts", "--fail-on"}),
        (["remedy", "fleet", "roll"], {"rollback"}),
        (["remedy", "fleet", "apply", "--batc"], {"--batch"}),
        (["remedy", "lab", "run", "tcp-i"], {"tcp-invalid-reset"}),
        (["remedy", "apply", "/etc/passw"], {"/etc/passwd"}),
    ],
)
def test_what_is_offered(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    shell: str,
    typed: list[str],
    offered: set[str],
) -> None:
    found = set(press(shell, script(capsys, shell), typed, folder=tmp_path))
    assert shown(shell, offered) <= found
    assert not {"plan", "trace"} & found


SITE = """\
apiVersion: remedy/v1
name: ours
extends: default
site:
  - id: site.backlog
    title: The accept queue is too short
    fact: sysctl:net.core.somaxconn
    is: "<"
    value: 8192
    mode: advise
"""
HOSTILE = "a$(touch${IFS}hit)b"
"""No name for a shell: it is not offered."""


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["remedy", "show", "2026"], {"20261128T202421Z-1"}),
        (["remedy", "rollback", "la"], {"last"}),
        (["remedy", "--netns", "we"], {"web1"}),
        (["remedy", "plan", "--policy", "dock"], {"docker-host"}),
        (["remedy", "plan", "--policy", "/etc/passw"], {"/etc/passwd"}),
        (["remedy", "fleet", "apply", "--resume", "run"], {"run-7"}),
        (["remedy", "report", "-o", "ht"], {"html:"}),
        (["remedy", "explain", "notr"], {"notrack", "notrack-breaks-nat"}),
        (["remedy", "check", "notr"], {"notrack-breaks-nat"}),
    ],
)
def test_names_of_this_host(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    shell: str,
    typed: list[str],
    offered: set[str],
) -> None:
    told = {
        "transactions": ["last", "20261128T202421Z-1"],
        "namespaces": ["web1", "db1"],
        "runs": ["run-7"],
    }
    command = tmp_path / "bin/remedy"  # answers in the place of a host that has these
    command.parent.mkdir()
    cases = "".join(f"*{kind}) printf '%s\\n' {' '.join(n)};;\n" for kind, n in told.items())
    command.write_text(
        f'#!/bin/sh\ncase "$*" in\n{cases}*) {sys.executable} -m remedies "$@";;\nesac\n'
    )
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    found = set(press(shell, script(capsys, shell), typed, folder=tmp_path, env={"PATH": path}))
    assert shown(shell, offered) <= found
    assert not {"db1", "observe-only"} & found


def test_names_are_read_from_this_host(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "netns"
    folder.mkdir()
    for name in ("web1", "db1", HOSTILE):
        (folder / name).touch()
    monkeypatch.setattr(netns, "RUN_DIR", str(folder))

    def names(kind: str) -> list[str]:
        assert cli.main(["completion", "--names", kind, "--state-dir", str(tmp_path)]) == 0
        return capsys.readouterr().out.split()

    assert names("namespaces") == ["db1", "web1"]
    assert names("transactions") == ["last"]
    assert "docker-host" in names("policies")
    assert "html:" in names("formats")
    assert {"notrack", "notrack-breaks-nat", "exit-codes"} <= set(names("ids"))


def test_conditions_that_the_policy_states_are_offered_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stated = tmp_path / "ours.yaml"
    stated.write_text(SITE)

    def names(kind: str) -> set[str]:
        words = ("--policy", str(stated), "completion", "--names", kind)
        assert cli.main([*words, "--state-dir", str(tmp_path)]) == 0
        return set(capsys.readouterr().out.split())

    assert {"site.backlog", "notrack-breaks-nat"} <= names("conditions")
    assert "notrack" not in names("conditions")
    assert {"site.backlog", "notrack"} <= names("ids")
    stated.write_text("rules: [")
    assert "notrack-breaks-nat" in names("conditions")


def test_choices_have_a_first_one() -> None:
    """shtab 1.7, of Debian 13, asks for it."""
    for _, inner in completion._parsers(parser.build()):
        for action in inner._actions:
            if action.choices and not isinstance(action, argparse._SubParsersAction):
                assert isinstance(action.choices, (list, tuple)), action.dest


def test_fish_knows_verbs_actions_values_names_and_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = script(capsys, "fish").splitlines()
    seen = "__fish_seen_subcommand_from"

    def offers(*parts: str) -> bool:
        return any(all(part in line for part in parts) for line in lines)

    assert offers("'__fish_use_subcommand' -a scan -d")
    assert offers(f"'{seen} fleet; and not {seen} ", "-a rollback -d")
    assert offers(f"'{seen} scan' -l fail-on -x -a 'exposed active proven'")
    assert offers(f"'{seen} explain' -a ", "--names ids")
    assert offers(f"'{seen} rollback' -l fix -x -a ", "notrack")
    assert offers(f"'{seen} apply' -F")
    assert offers(f"'{seen} scan' -l facts -r -F")
