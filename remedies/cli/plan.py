"""``remedy plan``: what would change, as a diff. Writes nothing but the file that -o names."""

from __future__ import annotations

import argparse
import json

from remedies.cli import files, leftover, starting
from remedies.cli.next_command import again
from remedies.cli.parser import watching
from remedies.cli.render import brief_plan, plan_text
from remedies.cli.terminal import Style
from remedies.model import Plan
from remedies.namespaces import machine
from remedies.operations import plans
from remedies.outcomes import ANSWERS

EXAMPLES = (
    ("plan", "show what would change here"),
    ("plan --policy docker-host -o plan.json", "save it, for 'remedy apply plan.json'"),
)


def pruning(parser: argparse.ArgumentParser) -> None:
    """Add the option that plan and apply share."""
    parser.add_argument(
        "--prune",
        action="store_true",
        help="also remove fixes whose fault is no longer found (a restart of Docker hides one "
        "for seconds)",
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    watching(parser)
    pruning(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="save the plan for 'remedy apply'")
    parser.add_argument(
        "--detailed-exitcode", action="store_true", help="exit 2 when changes are pending"
    )


def run(args: argparse.Namespace) -> int:
    """Plan and print; 8 where a wanted fix is refused, 2 for changes with --detailed-exitcode."""
    here = starting.start(args)
    starting.warn_unfinished(here)
    plan, _ = plans.make(here, prune=args.prune)
    starting.warn_of(plan)
    stays = plans.left(here, plan)
    if args.output or args.json:
        document = json.dumps(leftover.document(plan, stays), indent=2)
        if args.output:
            files.write_file(args.output, document + "\n")
        if args.json:
            print(document)
    if not args.json:
        style = Style(args)
        text = (
            brief_plan(plan, style) if args.quiet else plan_text(plan, style, verbose=args.verbose)
        )
        print(text)
        for line in leftover.lines(args, plan, stays):
            print(line)
        if not args.quiet:
            _next(args, plan)
    return refused(plan) or (2 if args.detailed_exitcode and plan.changes else 0)


def refused(plan: Plan) -> int:
    """Return the exit code of a refusal where a plan holds one that counts, else 0."""
    return ANSWERS["apply", "refused"].code if plan.refuses else 0


def _next(args: argparse.Namespace, plan: Plan) -> None:
    if plan.changes:
        words = ("apply", args.output) if args.output else ("apply",)
        where = ", on the machine itself" if machine.ROOT else ""  # a container may not apply
        print(f"\nNext{where}: '{again(args, *words)}'.")
    elif plan.advice and not args.verbose:
        print(f"\nNext: '{again(args, 'plan', '-v')}' gives the advice in full.")
    else:
        print(f"\nNext: '{again(args, 'status')}' shows what is in force.")
