"""Bad input: one line that says what, where and what to do; the exit code; nothing changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from remedies import cli
from remedies.cli import schema, settings


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMEDY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(settings, "FILE", str(tmp_path / "remedy.conf"))
    for name in ("REMEDY_POLICY", "REMEDY_NETNS", "REMEDY_JSON", "REMEDY_LOCK_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)


def fails(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    """Run a command line that must fail; return its one line."""
    assert cli.main(list(words)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("remedy: ")
    return line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scna"], "did you mean scan?"),
        (["scan", "--jsno"], "did you mean --json?"),
        (["plan", "--backend", "nftable"], "did you mean nftables?"),
        (["scan", "--window", "soon"], "'soon' is not a duration (90s, 2m, 1h)"),
        (["scan", "--window", "-1"], "--window"),
        (["scan", "--window", "nan"], "not between 0 and a day"),
        (["--netns", "no-such", "scan"], "no network namespace 'no-such'"),
        (["--quiet"], "no verb given"),
        (["explain", "invalid-dorp"], "did you mean invalid-drop?"),
        (["show", "T1"], "no transaction 'T1'"),
    ],
)
def test_usage(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert said in fails(capsys, 64, *words)


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["show", "T1", "--json"], {}),
        (["show", "T1"], {"REMEDY_JSON": "1"}),
        (["--json", "sh"], {}),
    ],
)
def test_with_json_the_error_is_a_document_too(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    environment: dict[str, str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cli.main(words) == 64
    captured = capsys.readouterr()
    plain = json.loads(captured.out)
    jsonschema.validate(plain, schema.schema("error"))
    assert (plain["kind"], plain["code"]) == ("error", 64)
    assert captured.err == f"remedy: {plain['message']}; {plain['hint']}\n"


POLICY = "apiVersion: remedy/v1\nname: mine\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (POLICY + "rulez: {}\n", ":3: rulez"),
        (POLICY + "backend: [nft]\n", ":3: backend"),
        (POLICY + "require:\n  - {fix: invalid-dorp, reason: x}\n", ":4: require.0.fix"),
        (
            POLICY + "rules:\n  tcp-invalid-reset: {mode: fixx}\n",
            ":4: rules.tcp-invalid-reset.mode",
        ),
        (POLICY + "rules: [\n", ":4"),
        ("", ":1"),
    ],
)
def test_policies(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    line = fails(capsys, 78, "scan", "--policy", str(path))
    assert f"{path}{said}" in line


def test_a_policy_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "gone.yaml" in fails(capsys, 78, "plan", "--policy", str(tmp_path / "gone.yaml"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("null", "not a facts file"),
        ('{"kind": "facts"}', "format_version"),
        ('{"kind": "facts", "format_version": "1.0"}', "the key 'host' is missing"),
        ('{"kind": "facts", "format_version": "2.0"}', "this tool reads 1.0"),
    ],
)
def test_facts_files(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "facts.json"
    path.write_text(text)
    line = fails(capsys, 65, "scan", "--facts", str(path))
    assert str(path) in line
    assert said in line


def test_files_that_are_no_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no such file" in fails(capsys, 65, "scan", "--facts", str(tmp_path / "gone"))
    assert "is a folder" in fails(capsys, 65, "scan", "--facts", str(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert "not text" in fails(capsys, 65, "scan", "--facts", str(tmp_path / "binary"))


def facts_file(tmp_path: Path, **unknown: str) -> str:
    path = tmp_path / "facts.json"
    host = {"name": "h\x1b[31m", "machine_id": "m", "kernel": "6", "netns": "host", "boot_id": "b"}
    plain = {
        "format_version": "1.0",
        "kind": "facts",
        "host": host,
        "time": "t",
        "window": 0.0,
        "known": {},
        "unknown": unknown,
    }
    path.write_text(json.dumps(plain))
    return str(path)


def test_what_cannot_be_judged_is_unknown_and_strict_counts_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    facts = facts_file(tmp_path, netfilter="run as root")
    assert cli.main(["scan", "--json", "--facts", facts]) == 0
    unknown = json.loads(capsys.readouterr().out)["unknown"]
    assert {"condition": "tcp-invalid-reset", "reason": "run as root", "partly": False} in unknown
    assert cli.main(["scan", "--strict", "--facts", facts]) == 2


def test_control_characters_never_reach_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cli.main(["scan", "--facts", facts_file(tmp_path)])
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert "h\\x1b[31m" in captured.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[remedy]\npolcy = x\n", "unknown key 'polcy'"),
        ("[remedy]\nlock-timeout = soon\n", "'soon' is not a valid lock-timeout"),
        ("[remedy]\njson = maybe\n", "'maybe' is not a valid json"),
        ("[remedy]\npolicy =\n", "'' is not a valid policy"),
        ("[remedy]\njson = yes\njson = no\n", "line 3"),
        ("policy: x\n", "no section headers"),
        ("[other]\njson = yes\n", "one section, [remedy]"),
        ("[DEFAULT]\njson = yes\n[remedy]\n", "one section, [remedy]"),
    ],
)
def test_the_configuration_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "remedy.conf").write_text(text)
    assert said in fails(capsys, 78, "list")


def test_the_yaml_of_older_versions_is_not_passed_over(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The policy that it names would no longer hold, and nobody would know."""
    (tmp_path / "remedy.yaml").write_text("policy: docker-host\n")
    said = fails(capsys, 78, "list")
    assert f"settings are read from {tmp_path}/remedy.conf now" in said
    (tmp_path / "remedy.conf").write_text("[remedy]\npolicy = docker-host\n")
    assert cli.main(["list"]) == 0


def test_precedence_of_flag_environment_file_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from remedies.cli import parser

    def value(*words: str) -> object:
        args = parser.parse(["list", *words])
        settings.fill(args)
        return args.lock_timeout

    assert value() == 10.0
    (tmp_path / "remedy.conf").write_text("[remedy]\nlock-timeout = 1m\n")
    assert value() == 60.0
    monkeypatch.setenv("REMEDY_LOCK_TIMEOUT", "2s")
    assert value() == 2.0
    assert value("--lock-timeout", "3s") == 3.0


def test_nothing_that_approves_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from remedies.cli import parser

    monkeypatch.setenv("REMEDY_YES", "1")
    monkeypatch.setenv("REMEDY_FORCE", "1")
    args = parser.parse(["apply"])
    settings.fill(args)
    assert not args.yes


def test_internal_errors_are_one_line_and_70(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "fill", lambda args: 1 / 0)
    assert "internal error: ZeroDivisionError" in fails(capsys, 70, "list")
    assert cli.main(["list", "-vv"]) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["list"], ["policy", "schema"], ["explain", "invalid-drop"]])
def test_a_full_device_is_no_bug(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "remedies", *words],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=30,
        )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("remedy: OSError: [Errno 28] No space left on device: "), (
        done.stderr
    )
    assert len(done.stderr.splitlines()) == 1
