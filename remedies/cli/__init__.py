"""The command line: the only code that prints or exits. One file per verb.

A verb is a module with ``arguments(parser)`` and ``run(args) -> int``, and a line in ``parser``. It
imports at its top only what its arguments need, so that help and completion stay quick.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Optional


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived: not an error of ours, so nothing may swallow it."""


def _terminate(number: int, _frame: Optional[FrameType]) -> None:
    raise Terminated(number)


def main(argv: Optional[list[str]] = None) -> int:
    """Run the command line and return the exit code of cli.md."""
    words = sys.argv[1:] if argv is None else argv
    verbosity = sum(word.count("v") for word in words if word in ("-v", "-vv", "-vvv"))
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGHUP, _terminate)
    try:
        return _run(words)
    except KeyboardInterrupt:
        return 130
    except Terminated as error:
        return 128 + int(error.args[0])
    except BrokenPipeError:
        # The reader of our output has gone: let the interpreter's last flush find no pipe.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        return 141
    except Exception as error:
        return _failed(error, verbosity)


def _run(words: list[str]) -> int:
    from remedies.cli import parser, settings

    args = parser.parse(words)
    settings.fill(args)
    if args.netns:
        from remedies import netns

        netns.enter(args.netns)
    code: int = args.run(args)
    sys.stdout.flush()
    return code


def _failed(error: Exception, verbosity: int) -> int:
    from remedies.cli.terminal import clean
    from remedies.errors import RemedyError

    if verbosity >= 2:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, RemedyError):
        print(f"remedy: {clean(str(error))}", file=sys.stderr)
        return error.exit_code
    what = clean(f"{type(error).__name__}: {error}")
    print(
        f"remedy: internal error: {what}; please report it with the output of the same command "
        "and -vv; 'remedy status' says in what state the host is",
        file=sys.stderr,
    )
    return 70
