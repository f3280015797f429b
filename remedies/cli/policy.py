"""The verb ``policy``: checks policies, prints their JSON Schema, shows the effective one."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from remedies import codec, model
from remedies.cli import settings
from remedies.errors import ConfigError
from remedies.model import FORMAT_VERSION
from remedies.policy import DEFAULT, waivers
from remedies.policy.compile import compile_all, compile_policy
from remedies.policy.document import PolicyProblem, Problems
from remedies.policy.schema import json_schema
from remedies.policy.show import to_yaml
from remedies.values import replace

EXAMPLES = (
    ("policy check policy.yaml", "validate a file before it is used"),
    ("policy show", "print the effective policy of this host"),
)

_EXIT_BAD_POLICY = 78


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``check [FILE...]``, ``schema`` and ``show``."""
    # What holds everywhere holds after the action too: its options are the verb's so far.
    common = argparse.ArgumentParser(add_help=False, parents=[parser])
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    plain: dict[str, Any] = {"parents": [common], "add_help": False, "allow_abbrev": False}
    check = actions.add_parser(
        "check", help="validate policies; fails on an expired waiver", **plain
    )
    check.add_argument(
        "sources",
        nargs="*",
        metavar="FILE|NAME",
        help="each on its own (default: those in force)",
    )
    actions.add_parser("schema", help="print the JSON Schema of a policy file", **plain)
    actions.add_parser(
        "show", help="print the effective policy and where each value came from", **plain
    )


def run(args: argparse.Namespace) -> int:
    """Run one action; return 78 where a policy is wrong. Raises ConfigError from ``show``."""
    in_force = tuple(args.policy or DEFAULT)
    if args.action == "schema":
        print(json.dumps(json_schema(), indent=2))
        return 0
    if args.action == "check":
        return _check([(source,) for source in args.sources] or [in_force], args.json)
    return _show(in_force, args)


def _show(sources: tuple[str, ...], args: argparse.Namespace) -> int:
    """Print the effective policy, with ``--backend`` and the setting ``persist`` laid over it."""
    policy = compile_policy(sources).policy
    origins = dict(policy.origins)
    if args.backend:
        origins["backend"] = "--backend"
        policy = replace(policy, backend=args.backend)
    if args.persist is not None:
        origins["persist"] = settings.FILE
        policy = replace(policy, persist=args.persist)
    policy = replace(policy, origins=origins, source=args.policy_source)
    if args.json:
        head = {"format_version": model.FORMAT_VERSION, "kind": "policy"}
        print(json.dumps({**head, "policy": codec.encode(policy)}, indent=2))
    else:
        print(to_yaml(policy), end="")
    return 0


def _check(groups: list[tuple[str, ...]], as_json: bool) -> int:
    """Print every problem of every group of sources, one a line."""
    found = [(", ".join(group), _problems(group)) for group in groups]
    if as_json:
        policies = [
            {"policy": name, "valid": not problems, "problems": [_plain(p) for p in problems]}
            for name, problems in found
        ]
        result = {"format_version": FORMAT_VERSION, "kind": "policy-check", "policies": policies}
        print(json.dumps(result, indent=2))
    else:
        for name, problems in found:
            for problem in problems:
                print(problem.error())
            if not problems:
                print(f"{name}: valid")
    return _EXIT_BAD_POLICY if any(problems for _, problems in found) else 0


def _problems(sources: tuple[str, ...]) -> list[PolicyProblem]:
    """Return everything wrong with a group of sources, expired waivers too."""
    try:
        policy = compile_all(sources).policy
    except Problems as found:
        return found.problems
    except ConfigError as error:
        name, _, what = error.what.partition(": ")
        return [PolicyProblem(name, 0, "", what, error.hint)]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    result = []
    for index, waiver in enumerate(policy.waivers):
        if waivers.expired(waiver, today):
            file, _, line = policy.origins[f"waivers.{index}"].rpartition(":")
            what = f"the waiver of {waiver.subject!r} ({waiver.owner}) expired on {waiver.until}"
            key = f"waivers: {waiver.condition}"
            result.append(PolicyProblem(file, int(line), key, what, "renew it or remove it"))
    return result


def _plain(problem: PolicyProblem) -> dict[str, object]:
    """Return a problem as JSON."""
    return {
        "file": problem.file,
        "line": problem.line or None,
        "key": problem.key,
        "message": problem.what,
        "hint": problem.hint,
    }
