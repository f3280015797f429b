"""What shells and systemd read of ours runs nothing that stands in a name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import report_hostile
from tab_key import SHELLS, press
from test_completion import script

from remedies.boot import units as restore
from remedies.errors import RemedyError
from remedies.model import Change, Wanted
from remedies.resources import file
from remedies.rules import ours
from remedies.transaction import bootguard

VALUES = (*report_hostile.VALUES, "\nExecStart=/bin/touch CANARY\n", "$(touch CANARY)", "%n ; $x")
NAMES = tuple(v for v in VALUES if not {"\0", "\ud800", "/"} & set(v) and len(v) < 200)
ids = ascii


@pytest.mark.parametrize(
    ("verb", "shell"),
    [
        *(("apply", shell) for shell in SHELLS),
        ("scan", "bash"),
        *(("show", shell) for shell in SHELLS),
    ],
)
def test_completion_runs_no_name_of_a_file_or_of_the_environment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, verb: str, shell: str
) -> None:
    """Each hostile text is a file here, a word that was typed, a variable that we read, and a name
    that the host answers with."""
    text = script(capsys, shell)
    folder, here, programs = tmp_path / "own", tmp_path / "here", tmp_path / "bin"
    for made in (folder, here, programs):
        made.mkdir()
    lines = "\n".join(name for name in NAMES if "\n" not in name)
    (programs / "remedy").write_text(f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n")
    (programs / "remedy").chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    for name in NAMES:
        (here / name).touch()
    names = set(os.listdir(here))
    for name in ("", "$(touch CANARY)", *NAMES[::6]):
        named = dict.fromkeys(("REMEDY_STATE_DIR", "REMEDY_NETNS", "REMEDY_POLICY"), name)
        named["PATH"] = path
        press(shell, text, ["remedy", verb, name], folder=folder, cwd=here, env=named)
    assert set(os.listdir(here)) == names


def directives(unit: str) -> dict[str, list[str]]:
    """Return what systemd reads, each line held to be one section, comment or plain setting."""
    found: dict[str, list[str]] = {}
    for line in unit.splitlines():
        if not line or line.startswith("# Written by remedy "):
            continue
        if line in ("[Unit]", "[Service]"):
            continue
        key, equals, value = line.partition("=")
        assert equals, line
        assert key.isalpha(), line
        assert line.isprintable(), line
        assert line.isascii(), line
        if key != "Description":
            assert not {*"%$\"'\\;`"} & set(value), line
        found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("value", VALUES, ids=ids)
def test_a_unit_says_the_same_whatever_the_rules_say(value: str) -> None:
    """Texts stand in the data that nft reads, as JSON, or the boot files are refused."""

    def units(text: str) -> list[dict[str, list[str]]]:
        chain = ours.NftChain("c", "filter", "input", 0, ((ours.drop(), ours.comment(text)),))
        table = Wanted("nft:inet/remedy_x", ours.nft_table("inet/remedy_x", (chain,)))
        made = [w for w in restore.boot_files("x", (table,)) if not w.resource.endswith(".json")]
        return [directives(str(w.state)) for w in made]

    if {"\0", "\ud800"} & set(value):
        with pytest.raises(RemedyError):
            units(value)
    else:
        assert units(value) == units("plain")
    hook = ours.iptables_chain("mangle/REMEDY-X", "nft", (f"INPUT {value}",), ("-j DROP",))
    if not value.replace("x", ""):
        return
    with pytest.raises(RemedyError):
        restore.boot_files("x", (Wanted("iptables:mangle/REMEDY-X", hook),))


@pytest.mark.parametrize("value", NAMES, ids=ids)
def test_a_state_folder_that_systemd_would_read_otherwise_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    root, state = tmp_path / "root", tmp_path / f"state{value}"
    monkeypatch.setattr(file, "ROOT", str(root))
    for name in ("etc/sysctl.d", "etc/systemd/system", "run/systemd/system"):
        (root / name).mkdir(parents=True)
    state.mkdir()
    path = "/etc/sysctl.d/99-zz-remedy-x.conf"
    change = Change("x", None, f"file:{path}", "update", value, "n", "", "exact", "low", "")
    bootguard.arm(str(state), "t", (change,))
    written = [each for each in root.rglob("*") if each.is_file()]
    if not bootguard.armed(str(state), "t"):
        assert written == []
        return
    for each in written:
        directives(each.read_text())
