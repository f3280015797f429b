"""``remedy init``: the host's policy in the settings file, every other line as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_shapes import departures
from hypothesis import given
from hypothesis import strategies as st

from remedies import cli
from remedies.cli import init, settings
from remedies.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the settings file of this test, which is not there yet."""
    path = tmp_path / "etc/remedy.conf"
    monkeypatch.setattr(settings, "FILE", str(path))
    monkeypatch.setattr("remedies.cli.writing.need_root", lambda verb: None)
    return path


def run(*words: str) -> int:
    return cli.main(["--no-input", *words])


def test_the_policy_is_written_and_holds(
    file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("init", "--policy", "docker-host", "--yes") == 0
    assert file.read_text() == "[remedy]\npolicy = docker-host\n"
    assert file.stat().st_mode & 0o777 == 0o644 & ~_umask()
    capsys.readouterr()
    args = cli_args("plan")
    assert (args.policy, args.policy_source) == (["docker-host"], str(file))
    assert run("init", "--policy", "docker-host", "--yes") == 0
    assert "already says so" in capsys.readouterr().out


def _umask() -> int:
    import os

    now = os.umask(0o22)
    os.umask(now)
    return now


def cli_args(*words: str) -> Any:
    from remedies.cli import parser

    args = parser.parse(list(words))
    settings.fill(args)
    return args


def test_a_dry_run_shows_the_difference_and_writes_nothing(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("init", "--policy", "docker-host", "--persist", "-n") == 0
    assert "+[remedy]\n+policy = docker-host\n+persist = true" in capsys.readouterr().out
    assert not file.exists()


def test_nothing_is_written_where_nobody_can_be_asked(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("init", "--policy", "docker-host") == 64
    assert "--yes" in capsys.readouterr().err
    assert not file.exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 64, "default|docker-host|"),
        (("--policy", "doker-host"), 78, "did you mean 'docker-host'"),
        (("--policy", "-"), 64, "save the policy as a file"),
        (("--policy", "default", "--persist", "--no-persist"), 64, "not allowed with"),
    ],
)
def test_what_names_no_policy_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    assert run("init", *words, "--yes") == code
    assert said in capsys.readouterr().err
    assert not file.exists()


def test_a_policy_file_is_named_by_its_whole_path(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "it's = ours.yaml").touch()
    (tmp_path / "ours.yaml").write_text("apiVersion: remedy/v1\nname: ours\nextends: docker-host\n")
    monkeypatch.chdir(tmp_path)
    assert run("init", "--policy", "ours.yaml", "--policy", "voip-gateway", "--yes") == 0
    assert cli_args("plan").policy == [str(tmp_path / "ours.yaml"), "voip-gateway"]
    odd = str(tmp_path / "it's = ours.yaml")
    assert settings.parsed(init.edited("", {"policy": [odd]})) == {"policy": odd}
    with pytest.raises(ConfigError, match="another name"):
        init.edited("", {"policy": [f"{odd}\n"]})


def test_persist_is_a_setting_of_the_file_alone(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What widens an action is never taken from the environment."""
    monkeypatch.setenv("REMEDY_PERSIST", "true")
    assert cli_args("plan").persist is None
    file.parent.mkdir()
    file.write_text("[remedy]\npersist = true\n")
    assert cli_args("plan").persist is True


def test_policy_show_has_what_the_file_says(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.parent.mkdir()
    file.write_text("[remedy]\npersist = true\npolicy = observe-only\n")
    assert run("policy", "show", "--json") == 0
    shown = json.loads(capsys.readouterr().out)["policy"]
    assert (shown["persist"], shown["origins"]["persist"]) == (True, str(file))
    assert (shown["names"], shown["source"]) == (["observe-only"], str(file))


KEPT = "# ours\nlock-timeout = 20s\n\njson = false\n"


@pytest.mark.parametrize(
    "old",
    [
        "policy = default\n",
        "policy =\n  default\n  voip-gateway\n",
        "policy = default\n# a word\n  voip-gateway\n",
        "Policy=default\n",
    ],
)
@pytest.mark.parametrize("place", ["before", "after", "between"])
def test_every_other_line_stays(old: str, place: str) -> None:
    first, rest = KEPT.split("\n\n")
    text = {"before": old + KEPT, "after": KEPT + old, "between": f"{first}\n{old}\n{rest}"}[place]
    made = init.edited(f"[remedy]\n{text}", {"policy": ["docker-host"]})
    assert settings.parsed(made) == {
        "policy": "docker-host", "lock-timeout": "20s", "json": "false"
    }  # fmt: skip
    assert [x for x in KEPT.splitlines() if x] == [
        x
        for x in made.splitlines()
        if x and x not in ("[remedy]", "policy = docker-host", "# a word")
    ]
    assert init.edited(made, {"policy": ["docker-host"]}) == made


@pytest.mark.parametrize(
    "text", ["policy: default\n", "[other]\nx = 1\n", "[DEFAULT]\njson = true\n"]
)
def test_what_is_no_settings_file_is_left_alone(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write \[remedy\]"):
        init.edited(text, {"policy": ["docker-host"]})


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


@given(st.lists(NAMES, min_size=1, max_size=3))
def test_any_name_comes_back_or_is_refused(names: list[str]) -> None:
    try:
        made = init.edited(f"[remedy]\n{KEPT}", {"policy": names})
    except ConfigError:
        return
    assert settings.parsed(made)["policy"].lstrip("\n").split("\n") == names


def test_json_tells_what_was_written(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", "--policy", "docker-host", "--json", "--yes") == 0
    plain = json.loads(capsys.readouterr().out)
    assert departures(plain) == []
    assert (plain["kind"], plain["changed"], plain["before"], plain["after"]) == (
        "init",
        True,
        "",
        "[remedy]\npolicy = docker-host\n",
    )
