"""``remedy lab``: faults reproduced in throw-away network namespaces."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict

from remedies.cli.lab_output import Teller
from remedies.errors import UsageError
from remedies.lab import NATS, registry, scenarios
from remedies.lab.run import run as run_story
from remedies.lab.run import up
from remedies.lab.world import Options

EXAMPLES = (
    ("lab list", "show the scenarios, and worlds that are up"),
    ("lab run tcp-invalid-reset", "show a fault, its fix and the way back"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own arguments."""
    parser.add_argument(
        "action",
        choices=("list", "run", "up", "down"),
        help="list scenarios and worlds; run a story; leave a world up; take worlds down",
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="a scenario; for down also the id of a world"
    )
    parser.add_argument(
        "--healthy", action="store_true", help="run the healthy twin, without the fault"
    )
    parser.add_argument(
        "--nat", choices=NATS, default="nft", help="the tool that writes the NAT rule (nft)"
    )
    parser.add_argument(
        "--family", type=int, choices=(4, 6), default=4, help="IP version of the traffic (4)"
    )
    parser.add_argument("--keep", action="store_true", help="run: leave the world up afterwards")
    parser.add_argument(
        "--all", action="store_true", help="down: every world that no run is using any more"
    )


def run(args: argparse.Namespace) -> int:
    """Do what ``action`` says; returns the exit code."""
    actions = {"list": _list, "run": _run, "up": _up, "down": _down}
    return actions[args.action](args)


def _options(args: argparse.Namespace) -> Options:
    if not args.name:
        raise UsageError(f"lab {args.action} needs a scenario", "see: remedy lab list")
    return Options(args.nat, args.family, args.healthy, args.backend)


def _json(kind: str, **values: object) -> None:
    print(json.dumps({"format_version": "1.0", "kind": kind, **values}, indent=2))


def _list(args: argparse.Namespace) -> int:
    found = {name: scenarios.summary(scenarios.load(name)) for name in scenarios.names()}
    worlds = registry.worlds() if os.geteuid() == 0 else ()
    if args.json:
        _json("lab-list", scenarios=found, worlds=[asdict(marker) for marker in worlds])
        return 0
    width = max(map(len, found))
    for name, summary in found.items():
        print(f"{name:{width}}  {summary}")
    for marker in worlds:
        kept = "left up" if marker.up else "in use, or its run was killed"
        print(f"world {marker.id}: {marker.scenario}, IPv{marker.family}, {marker.nat}; {kept}")
    print(f"\nNext: 'remedy lab run {next(iter(found))}'.")
    return 0


def _run(args: argparse.Namespace) -> int:
    options = _options(args)
    result = run_story(args.name, options, Teller(args), keep=args.keep)
    if args.json:
        _json(
            "lab",
            scenario=args.name,
            world=result.world,
            options=asdict(options),
            outcome="differs" if result.failure else "as-told",
            failure=result.failure or None,
            steps=[asdict(step) for step in result.steps],
        )
        return 1 if result.failure else 0
    left = f"; world {result.world} is left up (remedy lab down {result.world})"
    print()
    if result.failure:
        print(f"not as expected: {result.failure}{left if args.keep else ''}")
        return 1
    print(f"all {len(result.steps)} steps as expected{left if args.keep else ''}")
    print("Next: 'remedy scan' (this host) or 'remedy lab list' (other faults).")
    return 0


def _up(args: argparse.Namespace) -> int:
    world, look = up(args.name, _options(args))
    roles = ("client", "host", "server")
    attempt = f"{sys.executable} -m remedies.lab.attempt {world.id}"
    remedy = " ".join(["remedy", *world.remedy])
    commands = (attempt, f"{remedy} scan", f"{remedy} plan", *look)
    down = f"remedy lab down {world.id}"
    if args.json:
        spaces = {role: world.namespace(role) for role in roles}
        _json("lab-up", world=world.id, namespaces=spaces, commands=commands, down=down)
        return 0
    print(f"world {world.id} is up: " + ", ".join(world.namespace(role) for role in roles))
    print("run the traffic once:", attempt, "", "look:", sep="\n  ")
    for command in commands[1:]:
        print(f"  {command}")
    print(f"\nNext: '{down}'.")
    return 0


def _down(args: argparse.Namespace) -> int:
    if bool(args.name) == args.all:
        raise UsageError("lab down needs a scenario, the id of a world, or --all")
    removed = registry.sweep(kept=True, only=args.name or "")
    if args.name and not removed:
        raise UsageError(f"no world of {args.name!r} that could be taken down")
    if args.json:
        _json("lab-down", removed=[marker.id for marker in removed])
        return 0
    for marker in removed:
        print(f"removed world {marker.id} ({marker.scenario})")
    if not removed:
        print("no worlds to remove")
    return 0
