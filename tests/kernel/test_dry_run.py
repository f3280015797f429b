"""A dry run reaches no writer: every verb with ``-n``, with every other option, in every state."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import forked_cli
import pytest
from cli_host import Cli, Q
from faulty import REACHED, end_at_any_point
from residents import residents

from remedies.cli import parser
from remedies.lab import ruleset
from remedies.lab.world import World

VALUES = {
    "--change-id": ["C1"], "-m": ["why"], "--approved-by": ["al"], "--window": ["0"],
    "--confirm-timeout": ["5s"], "--fix": ["invalid-drop"],
}  # fmt: skip
"""What an option is given that takes a value; --confirm is refused beside a time."""
LEFT_OUT = {"-h", "-n", "--playbook", "--confirm"}


def writing() -> dict[str, list[argparse.Action]]:
    """Return the options of each verb of one host that has a dry run."""
    (verbs,) = (a for a in parser.build()._actions if isinstance(a, argparse._SubParsersAction))
    found = {name: list(verb._actions) for name, verb in verbs.choices.items()}
    dry = {n: a for n, a in found.items() if any("--dry-run" in o.option_strings for o in a)}
    del dry["audit"]  # only its repair has one, of a damaged journal: has its own test
    del dry["init"]  # it writes a settings file, and refuses to in a namespace: has its own test
    return dry


def lines(transaction: str, plan: str) -> Iterator[list[str]]:
    """Yield every verb, alone, with --yes, and then with each of its own options, before a -n."""
    everywhere = {o for action in parser.build()._actions for o in action.option_strings}
    for verb, actions in writing().items():
        positional = {"apply": [plan], "rollback": [transaction], "confirm": [transaction]}[verb]
        agreed = [] if verb == "confirm" else ["--yes"]
        for said in ([], ["--yes"]) if agreed else ([],):
            yield [verb, *said]
            yield [verb, *said, *positional]
        for action in actions:
            names = action.option_strings
            if names and not LEFT_OUT & set(names) and not everywhere & set(names):
                yield [verb, *agreed, names[0], *VALUES.get(names[0], [])]


def run(cli: Cli, *words: str) -> tuple[int, str]:
    """Run a command line that ends at the first point of a transaction; return how, and its text.

    In a fork: there are a hundred of them, and starting one takes longer than what it does.
    """
    done = forked_cli.run(*cli.options, *words, env=cli.environment, prepare=end_at_any_point)
    return done.returncode, done.stdout + done.stderr


def state(cli: Cli, world: World) -> tuple[object, ...]:
    folder = cli.folder / "state"
    files = {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "cache" not in path.parts
    }
    return ruleset.dump(world), files, guards(cli)


def guards(cli: Cli) -> list[str]:
    argv = ["ip", "netns", "pids", cli.netns]
    pids = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    found = []
    for pid in residents(map(int, pids)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            if Path(f"/proc/{pid}/comm").read_text() == "remedy-guard\n":
                found.append(str(pid))
    return found


def nothing(_cli: Cli) -> None:
    """Leave the host as it is: the fault is there and nothing is in force."""


def in_force(cli: Cli) -> None:
    assert cli("apply", "--yes", *Q).returncode == 0


def waiting(cli: Cli) -> None:
    assert cli("apply", "--yes", "--no-wait", "--confirm-timeout", "600s", *Q).returncode == 0


def left_behind(cli: Cli) -> None:
    """A transaction that nobody will undo: the next verb that writes would."""
    waiting(cli)
    (guard,) = guards(cli)
    descriptor = os.pidfd_open(int(guard))
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    os.close(descriptor)


@pytest.mark.parametrize("prepare", [nothing, in_force, waiting, left_behind])
def test_a_dry_run_changes_nothing(
    cli: Cli, exposed_world: World, tmp_path: Path, prepare: Callable[[Cli], None]
) -> None:
    plan = str(tmp_path / "plan.json")
    assert cli("plan", "-o", plan, *Q).returncode == 0
    prepare(cli)
    rows = cli.json("history")["transactions"]
    transaction = rows[0]["transaction"] if rows else "20260101T000000Z-00000000"
    before = state(cli, exposed_world)
    tried = list(lines(transaction, plan))
    for words in tried:
        window = [] if words[0] != "apply" or "--window" in words else Q
        code, said = run(cli, *words, "-n", *window)
        assert code in (0, 2, 5, 8, 64), (words, said)
        assert state(cli, exposed_world) == before, words
    assert {words[0] for words in tried} == {"apply", "rollback", "confirm"}
    # The point is one that a writer does reach.
    if prepare is left_behind:
        assert run(cli, "rollback", "--yes")[0] == REACHED
