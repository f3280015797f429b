"""The completion scripts: what a person gets who presses the tab key."""

from __future__ import annotations

from pathlib import Path

import pytest
from tab_key import SHELLS, press

from remedies import cli


def script(capsys: pytest.CaptureFixture[str], shell: str) -> str:
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", SHELLS)
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
def test_what_is_offered(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    shell: str,
    typed: list[str],
    offered: set[str],
) -> None:
    found = set(press(shell, script(capsys, shell), typed, folder=tmp_path))
    if shell == "zsh":  # of a path, the part that is not typed yet
        offered = {Path(word).name if word.startswith("/") else word for word in offered}
    assert offered <= found
    assert not {"plan", "trace"} & found


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
