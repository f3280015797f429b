"""The completion scripts: what a person gets who presses the tab key."""

from __future__ import annotations

import subprocess

import pytest

from remedies import cli

DRIVE = """\
source /dev/stdin
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_remedy remedy "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def script(capsys: pytest.CaptureFixture[str], shell: str) -> str:
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["remedy", "sc"], {"scan"}),
        (["remedy", "scan", "--fail-on", ""], {"exposed", "active", "proven"}),
        (["remedy", "scan", "--fa"], {"--facts", "--fail-on"}),
        (["remedy", "fleet", "roll"], {"rollback"}),
        (["remedy", "fleet", "apply", "--batc"], {"--batch"}),
        (["remedy", "explain", "notr"], {"notrack", "notrack-breaks-nat"}),
        (["remedy", "lab", "run", "tcp-i"], {"tcp-invalid-reset"}),
        (["remedy", "apply", "/etc/passw"], {"/etc/passwd"}),
    ],
)
def test_bash(capsys: pytest.CaptureFixture[str], typed: list[str], offered: set[str]) -> None:
    done = subprocess.run(
        ["bash", "-c", DRIVE, "bash", *typed],
        input=script(capsys, "bash"), capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    assert offered <= set(done.stdout.split())
    assert not {"plan", "trace"} & set(done.stdout.split())


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
    assert offers(f"'{seen} explain' -a ", "notrack-breaks-nat")
    assert offers(f"'{seen} apply' -F")
    assert offers(f"'{seen} scan' -l facts -r -F")


def test_zsh_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    text = script(capsys, "zsh")
    assert text.startswith("#compdef remedy")
    assert "tcp-invalid-reset" in text
