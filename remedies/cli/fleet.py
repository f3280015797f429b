"""The verb ``fleet``: the same on many hosts, through Ansible."""

from __future__ import annotations

import argparse
from typing import Any

from remedies.cli import fleet_actions
from remedies.cli.parser import agreeing, duration
from remedies.fleet.actions import ACTIONS, JOURNALED

EXAMPLES = (
    ("fleet scan -i inventory.ini", "detect faults on every host"),
    ("fleet apply plans -i inventory.ini --batch 1,10%,50%", "one host first, then in batches"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions."""
    common = argparse.ArgumentParser(add_help=False, parents=[parser])
    _site(common)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    plain: dict[str, Any] = {"parents": [common], "add_help": False, "allow_abbrev": False}
    verbs = {
        name: actions.add_parser(name, help=action.help, **plain)
        for name, action in ACTIONS.items()
    }
    for name, action in ACTIONS.items():
        if action.watches:
            verbs[name].add_argument(
                "--window", metavar="TIME", help="how long to watch on each host"
            )
    verbs["plan"].add_argument(
        "-o", "--output", metavar="DIR", help="save one plan a host, for 'fleet apply DIR'"
    )
    _rollout(verbs["apply"])
    _reporting(verbs["report"])
    which = verbs["rollback"].add_mutually_exclusive_group()
    which.add_argument("--run", dest="of_run", metavar="RUN", help="undo what this rollout applied")
    which.add_argument("--fix", metavar="ID", help="undo everything this fix has in force")
    which.add_argument("--every", action="store_true", help="undo everything that is in force")
    for name, action in ACTIONS.items():
        for key, text in JOURNALED.items() if action.journaled else ():
            option = f"--{key.replace('_', '-')}"
            verbs[name].add_argument(
                option, metavar="TEXT", help=f"{text}, for the journal of every host"
            )
        if action.writes:
            verbs[name].add_argument("-n", "--dry-run", action="store_true", help="change nothing")
            agreeing(verbs[name])
        if action.writes or name == "report":
            verbs[name].add_argument(
                "--run-dir", metavar="DIR", help="where runs are kept (~/.local/state/remedy/runs)"
            )


def _site(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-i", "--inventory", action="append", default=[], metavar="INVENTORY",
        help="file, script, folder, or names with a comma; repeatable",
    )  # fmt: skip
    parser.add_argument("--limit", default="", metavar="PATTERN", help="only these hosts")
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN",
        help="not these hosts; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--ansible", default="", metavar="ARGS",
        help="arguments for ansible-playbook, in one word: '--vault-password-file FILE -u admin'",
    )  # fmt: skip
    parser.add_argument("--forks", type=int, metavar="N", help="hosts at a time")


def _reporting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", action="append", metavar="FORMAT:FILE",
        help="write an audit report of all hosts, as 'remedy report' does; repeatable; exit 0 "
             "whatever it finds, 9 if a host gave no record",
    )  # fmt: skip
    parser.add_argument("--since", metavar="WHEN", help="with -o: only transactions this recent")
    parser.add_argument(
        "--against", metavar="FILE",
        help="with -o: an earlier report (-o json:FILE); also what has become better and worse",
    )  # fmt: skip
    parser.add_argument(
        "--heads-of", metavar="RUN",
        help="with -o: check each host's journal against the head that this rollout has kept",
    )  # fmt: skip


def _rollout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plans", nargs="?", metavar="DIR", help="plans of 'fleet plan -o DIR'")
    parser.add_argument(
        "--resume", metavar="RUN",
        help="continue a stopped run with the plans and hosts it began with; batches, limits and "
        "times can be given again",
    )  # fmt: skip
    parser.add_argument(
        "--batch", metavar="SIZES",
        help="sizes of the batches, such as 1,10%%,50%%; the last one is used for the rest "
        "(default: 100%%)",
    )  # fmt: skip
    parser.add_argument(
        "--confirm-timeout", type=duration, metavar="TIME",
        help="time after which a host undoes by itself what was not confirmed (default: 120s)",
    )  # fmt: skip
    parser.add_argument(
        "--max-fail", type=int, metavar="N",
        help="hosts that may fail before the rollout stops (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--max-fail-percentage", type=float, metavar="P",
        help="share of a batch that may fail before the rollout stops (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--undo", choices=("batch", "all", "none"),
        help="what is rolled back when it stops (default: batch)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run one action; the exit code is the worst of all hosts'."""
    return fleet_actions.run(args)
