"""``fleet apply --resume``: every option is obeyed, or refused with the reason."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from remedies.cli import fleet_resume, parser, settings
from remedies.cli.fleet_resume import RESUMED
from remedies.errors import InputError, UsageError
from remedies.fleet import rundir
from remedies.fleet.host_state import HostStanding
from remedies.fleet.rundir import RunTerms
from remedies.fleet.runner import Site


def fleet_apply() -> argparse.ArgumentParser:
    """Return the parser of ``fleet apply``, with the options of every verb."""
    found = parser.build("fleet")
    for name in ("fleet", "apply"):
        (verbs,) = (a for a in found._actions if isinstance(a, argparse._SubParsersAction))
        found = verbs.choices[name]
    return found


def options() -> set[str]:
    top = {action.dest for action in parser.build("fleet")._actions}
    mine = {action.dest for action in fleet_apply()._actions}
    return (top | mine) - {"help", "version", "verb", "action"}


def args(*words: str) -> argparse.Namespace:
    found = parser.parse(["fleet", "apply", "--resume", "R", *words])
    settings.fill(found)
    return found


WORDS: dict[str, tuple[list[str], Any]] = {
    "plans": (["plans"], None),
    "inventory": (["-i", "hosts"], None),
    "policy": (["--policy", "observe-only"], None),
    "backend": (["--backend", "iptables"], None),
    "state_dir": (["--state-dir", "/var/lib/remedy"], None),
    "ansible": (["--ansible", "-u root"], None),
    "change_id": (["--change-id", "C1"], None),
    "message": (["--message", "why"], None),
    "approved_by": (["--approved-by", "al"], None),
    "forks": (["--forks", "3"], ("forks", 3)),
    "batch": (["--batch", "1,50%"], ("batch", ("1", "50%"))),
    "max_fail": (["--max-fail", "2"], ("max_fail", 2)),
    "max_fail_percentage": (["--max-fail-percentage", "10"], ("max_fail_percentage", 10.0)),
    "undo": (["--undo", "none"], ("undo", "none")),
    "confirm_timeout": (["--confirm-timeout", "2m"], ("remedy_confirm_timeout", 120.0)),
    "window": (["--window", "3s"], ("remedy_window", "3s")),
    "lock_timeout": (["--lock-timeout", "1m"], ("remedy_lock_timeout", "60s")),
}
"""How each option is given, and the field or variable of the run that it changes."""
ELSEWHERE = {"resume", "run_dir", "limit", "exclude", "dry_run", "yes", "netns", "json", "plain",
             "no_color", "no_input", "quiet", "verbose"}  # fmt: skip
"""Those that say which run, which of its hosts, and what is shown."""
BEGAN = RunTerms(("i",), ("a",), ("100%",), {"remedy_window": "1s"}, undo="all", max_fail=1)


def test_every_option_has_its_line() -> None:
    assert set(RESUMED) == options()
    assert set(WORDS) | ELSEWHERE == set(RESUMED)


@pytest.mark.parametrize("name", [name for name, why in RESUMED.items() if why is not None])
def test_an_option_that_cannot_change_is_refused_with_the_reason(name: str) -> None:
    words, _ = WORDS[name]
    with pytest.raises(UsageError) as error:
        fleet_resume.check(args(*words))
    assert error.value.exit_code == 64
    assert str(RESUMED[name]) in str(error.value)


@pytest.mark.parametrize("name", [name for name, (_, kept) in WORDS.items() if kept])
def test_an_option_that_may_change_is_obeyed(name: str) -> None:
    words, (field, value) = WORDS[name]
    given = args(*words)
    fleet_resume.check(given)
    changed = fleet_resume.changed(given, BEGAN)
    found = changed.variables.get(field) if field.startswith("remedy_") else getattr(changed, field)
    assert found == value


def test_without_options_it_goes_on_as_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says of the controller's own host is no option of the run."""
    monkeypatch.setenv("REMEDY_POLICY", "observe-only")
    monkeypatch.setenv("REMEDY_LOCK_TIMEOUT", "99")
    given = args()
    fleet_resume.check(given)
    assert fleet_resume.changed(given, BEGAN) == BEGAN


def test_hosts_may_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = ("a", "b", "c")
    run = rundir.begin(str(tmp_path), RunTerms(("i",), hosts, ("1",)))
    run.tell(HostStanding("a", "confirmed"))
    seen: list[str] = []

    def listed(site: Site) -> list[str]:
        seen.append(site.limit)
        return [host for host in hosts if f"!{host}" not in site.limit.split(",")]

    monkeypatch.setattr(Site, "hosts", listed)
    assert fleet_resume.left(args(), run) == (["b", "c"], [])
    assert fleet_resume.left(args("--exclude", "b"), run) == (["c"], ["b"])
    assert fleet_resume.left(args("--limit", "b,c", "--exclude", "b"), run) == (["c"], ["b"])
    with pytest.raises(InputError, match="matches none of b, c"):
        fleet_resume.left(args("--exclude", "b", "--exclude", "c"), run)
    assert seen == ["all,!b", "b,c,!b", "all,!b,!c"]
