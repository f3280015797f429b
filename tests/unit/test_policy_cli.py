"""The verb ``policy``: what it prints, and its exit codes."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from remedies.cli import policy
from remedies.errors import ConfigError


def run(*words: str) -> int:
    parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
    parser.add_argument("--policy", action="append")
    parser.add_argument("--backend")
    parser.add_argument("--json", action="store_true")
    policy.arguments(parser)
    given = vars(parser.parse_args(words))
    unset = dict.fromkeys(("policy", "backend", "persist"))
    settings: dict[str, Any] = {**unset, "json": False, "policy_source": "", **given}
    return policy.run(argparse.Namespace(**settings))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> str:
    path.write_text(f"apiVersion: remedy/v1\nname: mine\n{text}")
    path.chmod(0o600)
    return path.name


def test_check_without_a_file_checks_what_is_in_force(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check") == 0
    assert capsys.readouterr().out == "default: valid\n"
    assert run("check", "--policy", "nat-gateway", "--policy", "docker-host") == 0
    assert capsys.readouterr().out == "nat-gateway, docker-host: valid\n"


def test_check_tells_every_problem_of_every_file(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write(here / "one.yaml", "bakend: auto\npersist: maybe\n")
    assert run("check", one, "default", "none.yaml") == 78
    assert capsys.readouterr().out.splitlines() == [
        "one.yaml:3: bakend: unknown key; did you mean 'backend'?",
        "one.yaml:4: persist: expected true or false, found 'maybe'; correct the value",
        "default: valid",
        "none.yaml: no such policy file; check the path",
    ]


def test_check_fails_on_an_expired_waiver(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waiver = "{condition: conntrack-pressure, subject: '*', until: %s, reason: r, owner: netops}"
    old = write(here / "old.yaml", f"waivers:\n  - {waiver % '2020-01-01'}\n")
    new = write(here / "new.yaml", f"waivers:\n  - {waiver % '2199-01-01'}\n")
    assert run("check", new) == 0
    capsys.readouterr()
    assert run("check", old) == 78
    assert capsys.readouterr().out == (
        "old.yaml:4: waivers: conntrack-pressure: the waiver of '*' (netops) expired on 2020-01-01;"
        " renew it or remove it\n"
    )


def test_check_as_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write(here / "one.yaml", "persist: maybe\n")
    assert run("check", one, "default", "--json") == 78
    result = json.loads(capsys.readouterr().out)
    assert (result["kind"], result["format_version"]) == ("policy-check", "1.0")
    bad, good = result["policies"]
    assert good == {"policy": "default", "valid": True, "problems": []}
    assert bad["problems"] == [
        {
            "file": "one.yaml",
            "line": 3,
            "key": "persist",
            "message": "expected true or false, found 'maybe'",
            "hint": "correct the value",
        }
    ]


def test_schema_names_what_this_version_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"].endswith("2020-12/schema")
    assert schema["required"] == ["apiVersion", "name"]
    assert schema["additionalProperties"] is False
    assert "tcp-invalid-reset" in schema["properties"]["rules"]["propertyNames"]["enum"]
    assert "notrack" in schema["$defs"]["RequireSource"]["properties"]["fix"]["enum"]
    assert "from" in schema["$defs"]["RuleSource"]["properties"]


def test_show_says_where_each_value_came_from(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write(here / "one.yaml", "extends: default\npersist: true\n")
    assert run("--policy", one, "show", "--backend", "iptables") == 0
    shown = capsys.readouterr().out
    assert "persist: true  # one.yaml:4\n" in shown
    assert "backend: iptables  # --backend\n" in shown
    assert "    mode: fix  # policies/default.yaml:" in shown
    assert run("--policy", one, "show", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["kind"] == "policy"
    assert result["policy"]["rules"]["tcp-invalid-reset"]["from"] == "exposed"
    assert result["policy"]["origins"]["persist"] == "one.yaml:4"


def test_show_raises_what_is_wrong(here: Path) -> None:
    one = write(here / "one.yaml", "persist: maybe\n")
    with pytest.raises(ConfigError, match=r"^one\.yaml:3: persist: expected true or false"):
        run("--policy", one, "show")
