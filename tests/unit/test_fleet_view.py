"""What a fleet's plan and dry run end with: how many hosts would change, and the next command."""

from __future__ import annotations

import shlex
from argparse import Namespace

import pytest

from remedies.cli.fleet_view import View
from remedies.cli.parser import parse
from remedies.fleet.host_state import HostStanding
from remedies.fleet.plans import Group

GROUPS = (Group(("+ nft:inet/remedy_x",), ("web1", "web2"), ()), Group((), ("web3",), ()))


def args(*words: str) -> Namespace:
    everywhere = {"plain": True, "json": False, "quiet": False}
    return Namespace(**{**everywhere, **vars(parse(["fleet", "plan", *words]))})


def test_the_next_command_names_the_same_hosts(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-i", "hosts one.yml", "-i", "b.yml", "--limit", "!web9", "--exclude", "web8"]
    View(args(*words, "-o", "plans")).plans(GROUPS, {}, "plans")
    said = capsys.readouterr().out.rpartition("Next: ")[2]
    command = shlex.split(said[said.index("'") + 1 : said.rindex("'")])
    assert command[:4] == ["remedy", "fleet", "apply", "plans"]
    again = parse(command[1:])
    assert again.inventory == ["hosts one.yml", "b.yml"]
    assert (again.limit, again.exclude) == ("!web9", ["web8"])


def test_a_dry_run_counts_what_would_change(capsys: pytest.CaptureFixture[str]) -> None:
    View(args("-i", "hosts.yml")).would(GROUPS)
    assert capsys.readouterr().out == "2 hosts would change; this was a dry run.\n"


def test_a_wanted_rollback_is_no_list_of_what_went_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A host that went back by itself is named; one that was told to is counted."""
    back = {
        "web1": HostStanding("web1", "reverted", 0),
        "web2": HostStanding("web2", "reverted", 7),
    }
    asked = Namespace(**{**vars(args("-i", "hosts.yml")), "action": "rollback"})
    View(asked).states(back)
    said = capsys.readouterr().out
    assert "web1" not in said
    assert "web2" in said
    assert "2 reverted" in said
