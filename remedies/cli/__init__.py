"""The command line: the only code that prints or exits. One file per verb.

A verb is a module with ``arguments(parser)`` and ``run(args) -> int``, and a line in ``parser``.
The first help page imports none of them; a verb's own page imports what the verb needs. Imports
are at the top, except those of a large library that few runs need.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from types import FrameType

from remedies.cli import parser, settings
from remedies.cli.parser import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Optional


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived. No handler of Exception swallows it."""


def _terminate(number: int, _frame: Optional[FrameType]) -> None:
    raise Terminated(number)


def main(argv: Optional[list[str]] = None) -> int:
    """Run the command line and return the exit code, of README.md's table."""
    words = sys.argv[1:] if argv is None else argv
    verbosity = sum(word.count("v") for word in words if word in ("-v", "-vv", "-vvv"))
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup(1) leaves it
        signal.signal(signal.SIGHUP, _terminate)
    _have_streams()
    args = None
    try:
        args = parser.parse(words)
        settings.fill(args)
        return _run(args)
    except KeyboardInterrupt:
        return 130
    except Terminated as error:
        return 128 + int(error.args[0])
    except BrokenPipeError:
        # The reader of our output has gone: let the interpreter's last flush find no pipe.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        return 141
    except Exception as error:
        from remedies.cli import failure  # what an error needs, no other run does

        return failure.told(error, verbosity, as_json=getattr(args, "json", "--json" in words))


def _have_streams() -> None:
    """Open /dev/null for a standard stream that is closed; print any character without an error.

    Otherwise the next file to be opened would become a child's standard stream.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(args: argparse.Namespace) -> int:
    at_home = getattr(args, "at_home", None)
    if at_home is not None:
        at_home(args)
    if args.netns:
        from remedies.namespaces import netns

        netns.enter(args.netns)
    code: int = args.run(args)
    sys.stdout.flush()
    return code
