"""Every scenario keeps the contract, and a world starts children that nobody else steers."""

from __future__ import annotations

import inspect

import pytest

from remedies.errors import UsageError
from remedies.lab import scenarios
from remedies.lab.ruleset import difference, normal
from remedies.lab.world import child_environment
from remedies.model import VERDICTS


def test_the_missions_faults_are_there() -> None:
    assert {"tcp-invalid-reset", "udp-reply-source", "notrack-breaks-nat"} <= set(scenarios.names())


@pytest.mark.parametrize("name", scenarios.names())
def test_scenario_keeps_the_contract(name: str) -> None:
    scenario = scenarios.load(name)
    story = (scenario.__doc__ or "").strip()
    assert scenarios.summary(scenario).endswith(".")
    assert "healthy twin" in " ".join(story.split())
    assert scenario.VERDICT in VERDICTS
    assert scenario.HEALTHY in ("absent", "exposed")
    for function in (scenario.build, scenario.traffic, scenario.story, scenario.look):
        assert callable(function)


def test_unknown_scenario_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean udp-reply-source"):
        scenarios.load("udp-reply-sauce")


def test_children_are_not_steered_by_the_callers_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REMEDY_POLICY", "observe-only")
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22")
    monkeypatch.setenv("PYTHONSTARTUP", "x")
    names = inspect.unwrap(child_environment)()  # as it is without the tests' own policy
    assert not {"REMEDY_POLICY", "SSH_CONNECTION", "PYTHONSTARTUP"} & set(names)
    assert names["NO_COLOR"] == "1"


def test_difference_names_the_source_that_moved() -> None:
    before = {"nft": "table inet a", "sysctl": "0"}
    assert difference(before, dict(before)) == ""
    moved = difference(before, {"nft": "table inet a", "sysctl": "1", "new": "x"})
    assert "--- sysctl before" in moved
    assert "+x" in moved
    assert "nft" not in moved


def test_counters_comments_and_idle_tables_do_not_count() -> None:
    busy = "*nat\n:PREROUTING ACCEPT [3:180]\n-A PREROUTING -j RETURN\nCOMMIT\n"
    idle = "*mangle\n:PREROUTING ACCEPT [3:180]\n:INPUT ACCEPT [0:0]\nCOMMIT\n"
    dropping = "*filter\n:INPUT DROP [0:0]\nCOMMIT\n"
    assert normal("# made at noon\n" + idle) == ""
    assert normal(idle + busy).startswith("*nat\n:PREROUTING ACCEPT\n-A")
    assert "INPUT DROP" in normal(dropping)
    assert normal("counter packets 3 bytes 180 drop") == "counter  drop"
