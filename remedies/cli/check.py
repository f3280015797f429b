"""``remedy check``: one line and an exit code for a monitoring system."""

from __future__ import annotations

import argparse
import json

from remedies.cli import starting
from remedies.cli.parser import duration, watching
from remedies.errors import UsageError
from remedies.model import FORMAT_VERSION
from remedies.operations import check
from remedies.operations.session import HostSession
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
"""Octets of the line: node-problem-detector cuts what is longer."""
_GRACE = 1.0
"""Seconds of the time limit that are left for the answer."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="only these conditions (default: all)")
    parser.add_argument(
        "--format",
        choices=tuple(CODES),
        default="nagios",
        help="the monitoring system whose exit codes are used (default: nagios)",
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

    def begin() -> HostSession:
        here = starting.start(args)
        return replace(here, policy=check.only(here.policy, args.ids))

    answer = check.check(begin, args.timeout - _GRACE)
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
    print(_short(f"REMEDY {answer.state.upper()} - {text}"))
    return code


def _short(line: str) -> str:
    """Return a line of at most 80 octets, which is what node-problem-detector counts."""
    octets = line.encode()
    if len(octets) <= _WIDEST:
        return line
    return f"{octets[: _WIDEST - 3].decode(errors='ignore')}..."
