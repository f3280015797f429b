"""The table of the fleet's actions, and those who read it: command line, playbooks, Ansible."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from fake_store import YES

from remedies.cli import parser
from remedies.fleet.actions import ACTIONS, JOURNALED
from remedies.fleet.calls import Outcome, Visit
from remedies.fleet.host_state import HostStanding
from remedies.fleet.remote import Answer
from remedies.fleet.request import Order
from remedies.fleet.tasks import DOES, Task, result
from remedies.transaction.consent import Consent

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
WRITING = [name for name, action in ACTIONS.items() if action.writes]


class Asked(Exception):
    """The play's consent was asked for."""


class Silent:
    """A host that remembers what it was asked, and says that nothing is to do."""

    def __init__(self) -> None:
        """Begin with no words."""
        self.asked: list[list[str]] = []

    def ask(self, words: list[str], _stdin: str = "") -> Answer:
        """Take the words of a command line."""
        self.asked.append(words)
        return Answer(0, {"kind": words[0], "outcome": "nothing"})


def task(host: Silent, *, check: bool, said: list[HostStanding], asked: Any = None) -> Task:
    def agree() -> Consent:
        if check:
            raise Asked
        said.append(HostStanding("agreed", "untouched"))
        return YES

    return Task(Visit("h", cast(Any, host), Order()), asked or {}, check, said.append, agree)


def test_each_action_does_something_and_has_a_playbook() -> None:
    assert set(DOES) == set(ACTIONS) == {path.stem for path in PLAYBOOKS.glob("*.yml")}


@pytest.mark.parametrize("name", ACTIONS)
def test_a_playbook_runs_the_action_of_its_name(name: str) -> None:
    (play,) = yaml.safe_load((PLAYBOOKS / f"{name}.yml").read_text())
    step, *told = play["tasks"]
    assert step["remedy"]["verb"] == name
    # What a verb found is for people who run the playbook; 'remedy fleet' prints its own.
    assert [task["when"] for task in told] == ["remedy_run is not defined"] * len(told)
    assert len(told) == (name in ("scan", "report"))
    assert (play["gather_facts"], play["become"]) == (False, True)


@pytest.mark.parametrize("name", ACTIONS)
def test_the_command_line_takes_what_goes_with_an_action(name: str) -> None:
    action = ACTIONS[name]
    args = parser.build().parse_args(["fleet", name])
    assert hasattr(args, "window") == action.watches
    assert hasattr(args, "dry_run") == hasattr(args, "yes") == action.writes
    assert all(hasattr(args, key) == action.journaled for key in JOURNALED if key != "message")
    assert hasattr(args, "run_dir") or not action.writes


@pytest.mark.parametrize("name", WRITING)
def test_in_check_mode_no_action_asks_for_the_consent_or_for_a_write(name: str) -> None:
    host, said = Silent(), list[HostStanding]()
    DOES[name](task(host, check=True, said=said))
    assert said == []
    assert all("--dry-run" in words or words[0] in ("plan", "history") for words in host.asked)


@pytest.mark.parametrize("name", ["confirm", "rollback"])
def test_a_host_has_its_word_in_the_log_before_it_is_told_to_write(name: str) -> None:
    said: list[HostStanding] = []

    class Counting(Silent):
        words_before: int = -1

        def ask(self, words: list[str], _stdin: str = "") -> Answer:
            self.words_before = len(said)
            return super().ask(words)

    host = Counting()
    outcome = DOES[name](task(host, check=False, said=said, asked={"transaction": "t1"}))
    assert host.words_before == 2, "the consent, then the word, then the host"
    assert (said[1].state, said[1].transaction) == ("unreachable", "t1")
    assert outcome.standing.state == "untouched"


@pytest.mark.parametrize("name", sorted(set(ACTIONS) - set(WRITING)))
def test_what_writes_nothing_needs_no_consent(name: str) -> None:
    host, said = Silent(), list[HostStanding]()
    DOES[name](task(host, check=True, said=said))
    assert said == []
    assert all(words[0] in ("scan", "plan", "verify") for words in host.asked)


def test_ansible_calls_a_host_failed_only_where_the_action_has_failed() -> None:
    def failed(name: str, rc: int) -> object:
        return result(name, Outcome(HostStanding("h", "untouched", rc)), check=False)["failed"]

    assert [failed("scan", rc) for rc in (0, 2, 1)] == [False, False, True]
    assert [failed("plan", rc) for rc in (0, 8, 2)] == [False, False, True]
    assert [failed("apply", rc) for rc in (0, 8)] == [False, True]
    assert failed("no such action", 2)


def test_a_record_that_cannot_be_kept_leaves_the_outcome_as_it_is(tmp_path: Path) -> None:
    host, said = Silent(), list[HostStanding]()
    asked = {"record": str(tmp_path)}
    standing = DOES["rollback"](task(host, check=False, said=said, asked=asked)).standing
    assert (standing.state, standing.rc) == ("untouched", 0)
    assert "record" in str(standing.details["no_record"])
