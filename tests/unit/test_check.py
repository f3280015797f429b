"""``remedy check``: the state, the line and the exit codes that monitoring systems read."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any, Optional

import pytest
from builder import finding, policy, scan

from remedies import catalogue, cli, shipped
from remedies.cli import check as verb
from remedies.cli import starting
from remedies.errors import UsageError
from remedies.model import Finding, Unknown
from remedies.operations import check
from remedies.operations.check import HealthAnswer
from remedies.planning import engine

VAGUE = Unknown("vague", "no permission")


def of(verdict: Any, severity: Any = "high", waived: Optional[str] = None) -> Finding:
    return finding("c", verdict=verdict, severity=severity, waived=waived)


@pytest.mark.parametrize(
    ("findings", "unknown", "state", "text"),
    [
        ((), (), "ok", "nothing found"),
        ((of("mitigated"),), (), "ok", "nothing found"),
        ((of("exposed", "critical"),), (), "ok", "nothing fails now; c exposed"),
        ((of("proven", "critical", "until May"),), (), "ok", "nothing found"),
        ((of("active", "medium"),), (), "warning", "c active"),
        ((of("active", "high"),), (), "critical", "c active"),
        ((of("proven", "low"), of("proven", "critical")), (), "critical", "c proven"),
        ((of("active", "low"),), (VAGUE,), "warning", "c active"),
        ((of("exposed"),), (VAGUE,), "unknown", "not judged: vague"),
        ((of("unknown"),), (), "unknown", "not judged: c"),
        ((), (Unknown("c", "one rule", partly=True),), "ok", "nothing found"),
    ],
)
def test_what_a_scan_comes_to(
    findings: tuple[Finding, ...], unknown: tuple[Unknown, ...], state: str, text: str
) -> None:
    assert check.judge(scan(*findings, unknown=unknown)) == HealthAnswer(state, text)  # type: ignore[arg-type]


def test_only_the_conditions_that_are_named_are_watched() -> None:
    whole = policy()
    assert check.only(whole, ()) is whole
    assert engine.watched(check.only(whole, ["stale-flow"])) == ("stale-flow",)
    with pytest.raises(UsageError, match="stale-flwo"):
        check.only(whole, ["stale-flwo"])
    assert set(check.only(whole, ["stale-flow"]).rules) >= set(catalogue.condition_ids()) - {
        "stale-flow"
    }


@pytest.mark.parametrize(
    ("state", "nagios", "npd"),
    [("ok", 0, 0), ("warning", 1, 1), ("critical", 2, 1), ("unknown", 3, 2)],
)
def test_each_protocol_has_its_exit_codes(
    state: Any,
    nagios: int,
    npd: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = "a | b\n" + "long " * 30
    monkeypatch.setattr(check, "check", lambda begin, limit: HealthAnswer(state, text))
    for name, code in (("nagios", nagios), ("npd", npd)):
        assert cli.main(["check", "--format", name]) == code
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(f"REMEDY {state.upper()} - a / b long ")
        assert len(line) == 80
        assert cli.main(["check", "--format", name, "--json"]) == code
        plain = json.loads(capsys.readouterr().out)
        assert (plain["state"], plain["code"]) == (state, code)


def test_a_line_is_cut_by_octets_and_within_no_letter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "check", lambda begin, limit: HealthAnswer("ok", "\u00fc" * 60))
    assert cli.main(["check"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert 76 < len(line.encode()) <= 80
    assert line.endswith("\u00fc...")


def test_what_comes_before_the_scan_counts_against_the_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a policy that is compiled, or a journal on a disk that hangs."""
    monkeypatch.setattr(starting, "start", lambda args: signal.pause())
    assert cli.main(["check", "--window", "0", "--timeout", "1100ms"]) == 3
    assert "took longer than 0.1 s" in capsys.readouterr().out


def test_an_error_is_unknown_in_the_protocols_own_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["check", "--policy", "no-such-policy"]) == 3
    assert capsys.readouterr().out.startswith("REMEDY UNKNOWN - ")
    assert cli.main(["check", "no-such-condition", "--format", "npd"]) == 2
    assert "no-such-condition" in capsys.readouterr().out


def test_what_takes_too_long_is_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb, "_GRACE", 0.9)
    assert cli.main(["check", "--window", "1s", "--timeout", "1s"]) == 64
    assert "--timeout" in capsys.readouterr().err
    assert cli.main(["check", "--window", "0", "--timeout", "901ms"]) == 3
    assert "took longer than 0.001 s" in capsys.readouterr().out


def seconds(duration: str) -> float:
    assert duration.endswith("s")
    return float(duration[:-1])


@pytest.mark.parametrize("name", ["icinga2.conf", "nagios.cfg"])
def test_the_shipped_services_run_what_their_line_for_sudo_allows(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but that line is allowed, and no other is run."""
    text = (Path(shipped.folder("monitoring")) / name).read_text()
    (allowed,) = re.findall(r"NOPASSWD: (.*)$", text, re.MULTILINE)
    (run,) = re.findall(r"^ *command(?:_line| =) +(.*sudo.*)$", text, re.MULTILINE)
    sudo, option, program, *words = re.sub(r'[][",]', " ", run).split()
    assert [sudo, option, program, *words] == ["sudo", "-n", *allowed.split()]
    assert program == "/usr/bin/remedy"
    monkeypatch.setattr(check, "check", lambda *_: HealthAnswer("critical", "c proven"))
    assert cli.main(words) == 2


def test_the_shipped_plugin_configuration_is_one_that_node_problem_detector_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By Validate() of its pkg/custompluginmonitor/types/config.go, and by our own options."""
    plain = json.loads(
        (Path(shipped.folder("monitoring")) / "node-problem-detector.json").read_text()
    )
    overall = plain["pluginConfig"]
    assert plain.keys() == {
        "plugin", "pluginConfig", "source", "metricsReporting", "conditions", "rules"
    }  # fmt: skip
    assert overall.keys() <= {
        "invoke_interval", "timeout", "max_output_length", "concurrency",
        "enable_message_change_based_condition_update", "skip_initial_status",
    }  # fmt: skip
    assert plain["plugin"] == "custom"
    assert overall["max_output_length"] == verb._WIDEST
    presets = {each["type"] for each in plain["conditions"]}
    assert all(each.keys() == {"type", "reason", "message"} for each in plain["conditions"])
    limits: list[float] = []

    def answer(begin: object, limit: float) -> HealthAnswer:
        limits.append(limit)
        return HealthAnswer("critical", "c proven")

    monkeypatch.setattr(check, "check", answer)
    for rule in plain["rules"]:
        assert rule.keys() == {"type", "condition", "reason", "path", "args", "timeout"}
        assert rule["type"] == "permanent"
        assert rule["condition"] in presets
        assert rule["path"].startswith("/")
        assert cli.main(rule["args"]) == 1
        assert len(capsys.readouterr().out.strip()) <= verb._WIDEST
        # Killed, it would be Unknown without a reason: it ends by itself before.
        assert limits.pop() + verb._GRACE < seconds(rule["timeout"]) <= seconds(overall["timeout"])
        assert seconds(overall["timeout"]) < seconds(overall["invoke_interval"])
