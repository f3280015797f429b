"""``remedy check``: the state, the line and the exit codes that monitoring systems read."""

from __future__ import annotations

import json
from typing import Any, Optional

import pytest
from builder import finding, policy, scan

from remedies import catalogue, cli
from remedies.cli import check as verb
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
    monkeypatch.setattr(check, "check", lambda here, limit: HealthAnswer(state, text))
    for name, code in (("nagios", nagios), ("npd", npd)):
        assert cli.main(["check", "--format", name]) == code
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(f"REMEDY {state.upper()} - a / b long ")
        assert len(line) == 80
        assert cli.main(["check", "--format", name, "--json"]) == code
        plain = json.loads(capsys.readouterr().out)
        assert (plain["state"], plain["code"]) == (state, code)


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
