"""``remedy check``: one line and an exit code for a monitoring system."""

from __future__ import annotations

import argparse
import json

from remedies.cli import starting
from remedies.cli.parser import duration, watching
from remedies.errors import RemedyError, UsageError
from remedies.model import FORMAT_VERSION
from remedies.operations import check
from remedies.operations.check import HealthAnswer
from remedies.printable import clean, for_plugin
from remedies.values import replace

EXAMPLES = (
    ("check", "a Nagios or Icinga plugin's line and exit code"),
    ("check tcp-invalid-reset --format npd", "one condition, for node-problem-detector"),
)

CODES = {
    "nagios": {"ok": 0, "warning": 1, "critical": 2, "unknown": 3},
    "npd": {"ok": 0, "warning": 1, "critical": 1, "unknown": 2},
}
"""Exit codes: of the Monitoring Plugins' guidelines, and of node-problem-detector's custom plugins
(OK, NonOK, Unknown)."""
_WIDEST = 80
"""Characters of the line: node-problem-detector cuts what is longer."""
_GRACE = 1.0
"""Seconds of the time limit that are left for the answer."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="only these conditions (default: all)")
    parser.add_argument(
        "--format",
        choices=tuple(CODES),
        default="nagios",
        help="whose exit codes (default: nagios)",
    )
    parser.add_argument(
        "--timeout",
        type=duration,
        default=5.0,
        metavar="TIME",
        help="answer 'unknown' after this time (default: 5s)",
    )
    watching(parser)


def run(args: argparse.Namespace) -> int:
    """Check and print one line; the exit code is the protocol's, for errors, too."""
    if args.window + _GRACE >= args.timeout:
        raise UsageError(
            f"--window {args.window:g}s leaves less than {_GRACE:g} s of --timeout "
            f"{args.timeout:g}s to read and judge",
            "give more time, or a shorter window",
        )
    try:
        here = starting.start(args)
        here = replace(here, policy=check.only(here.policy, args.ids))
        answer = check.check(here, args.timeout - _GRACE)
    except RemedyError as error:
        answer = HealthAnswer("unknown", str(error))
    code = CODES[args.format][answer.state]
    text = for_plugin(clean(answer.text))
    if args.json:
        plain = {
            "format_version": FORMAT_VERSION,
            "kind": "check",
            "state": answer.state,
            "code": code,
            "text": text,
        }
        print(json.dumps(plain, indent=2))
        return code
    line = f"REMEDY {answer.state.upper()} - {text}"
    print(line if len(line) <= _WIDEST else f"{line[: _WIDEST - 3]}...")
    return code
